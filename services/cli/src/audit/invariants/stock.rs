//! The stock against its ledger and against the reservations: I1, I2, I3 and Q5.

use super::super::{inventory::Stock, report::Finding};

pub(super) fn i1(stock: &[Stock]) -> Finding {
    let mut finding =
        Finding::new("I1", "stock is never negative, and on hand = available + reserved");
    for sku in stock {
        let holds =
            sku.available >= 0 && sku.reserved >= 0 && sku.on_hand == sku.available + sku.reserved;
        finding.expect(holds, || {
            format!(
                "{}: on hand {}, available {}, reserved {}",
                sku.sku, sku.on_hand, sku.available, sku.reserved
            )
        });
    }
    finding
}

pub(super) fn i2(stock: &[Stock]) -> Finding {
    let mut finding = Finding::new("I2", "the stock ledger adds up to the stock");
    for sku in stock {
        let holds = sku.available == sku.ledger_available && sku.reserved == sku.ledger_reserved;
        finding.expect(holds, || {
            format!(
                "{}: available {} but ledger {}, reserved {} but ledger {}",
                sku.sku, sku.available, sku.ledger_available, sku.reserved, sku.ledger_reserved
            )
        });
    }
    finding
}

pub(super) fn i3(stock: &[Stock]) -> Finding {
    let mut finding =
        Finding::new("I3", "what is reserved is the sum of the lines of open reservations");
    for sku in stock {
        finding.expect(sku.reserved == sku.reserved_lines, || {
            format!("{}: reserved {} but lines {}", sku.sku, sku.reserved, sku.reserved_lines)
        });
    }
    finding
}

pub(super) fn q5(stock: &[Stock]) -> Finding {
    let mut finding = Finding::new("Q5", "opening stock = available + what completed orders took");
    for sku in stock {
        finding.expect(sku.opening == sku.available + sku.committed_lines, || {
            format!(
                "{}: opened with {}, available {}, taken {}",
                sku.sku, sku.opening, sku.available, sku.committed_lines
            )
        });
    }
    finding
}

//! The orders of a file.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use anyhow::{Context as _, ensure};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use crate::catalogue::Catalogue;

/// The week that comes with Portolan (`data/README.md` has its origin and licence).
pub(crate) const BUILT_IN: &[u8] = include_bytes!("../../../../data/orders-week.csv");

/// A line of the file. The other columns are not needed.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    invoice: String,
    customer: String,
    sku: String,
    quantity: u32,
    unit_price_minor: i64,
}

/// An order to be placed: the lines of an invoice, merged by SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(super) invoice: String,
    pub(crate) customer: String,
    pub(crate) lines: BTreeMap<String, u32>,
    /// What the lines cost at the catalogue's prices, in minor units.
    pub(super) catalogue_minor: i64,
    /// What they cost then.
    pub(super) historic_minor: i64,
    /// Lines before merging.
    pub(super) file_lines: u64,
    /// How many of them had another price than the catalogue's.
    pub(super) other_price: u64,
}

/// What the file says, as far as it is replayed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders {
    pub(crate) placed: Vec<Order>,
    /// Lines before merging.
    pub(super) lines: u64,
    /// What the lines cost then, in minor units.
    pub(super) historic_minor: i64,
    /// What they cost at the catalogue's prices.
    pub(super) catalogue_minor: i64,
    /// How many lines had another price than the catalogue's.
    pub(super) other_price: u64,
    /// Units of every SKU.
    pub(super) units: BTreeMap<String, i64>,
}

impl Orders {
    /// Reads at most `limit` orders of a `.csv` or `.csv.gz` file, or of the week that comes with
    /// Portolan.
    ///
    /// # Errors
    /// The file cannot be read, or names a product that the catalogue does not have.
    pub(crate) fn read(
        file: Option<&Path>,
        limit: usize,
        catalogue: &Catalogue,
    ) -> anyhow::Result<Self> {
        let Some(file) = file else { return Self::parse(BUILT_IN, limit, catalogue) };
        let open = || {
            let raw = BufReader::new(File::open(file)?);
            let packed = file.extension().is_some_and(|extension| extension == "gz");
            let reader: Box<dyn Read> =
                if packed { Box::new(MultiGzDecoder::new(raw)) } else { Box::new(raw) };
            Self::parse(reader, limit, catalogue)
        };
        open().with_context(|| format!("cannot replay {}", file.display()))
    }

    /// The lines of an order stand together.
    fn parse(reader: impl Read, limit: usize, catalogue: &Catalogue) -> anyhow::Result<Self> {
        let mut placed: Vec<Order> = Vec::new();
        for line in csv::Reader::from_reader(reader).deserialize() {
            let line: Line = line?;
            let started = placed.last().is_some_and(|order| order.invoice == line.invoice);
            if !started {
                if placed.len() == limit {
                    break;
                }
                let (invoice, customer) = (line.invoice.clone(), line.customer.clone());
                placed.push(Order { invoice, customer, ..Order::default() });
            }
            if let Some(order) = placed.last_mut() {
                order.add(&line, catalogue)?;
            }
        }
        ensure!(!placed.is_empty(), "there are no orders in it");
        Ok(Self::of(placed))
    }

    fn of(placed: Vec<Order>) -> Self {
        let mut all = Self::default();
        for order in &placed {
            all.lines += order.file_lines;
            all.historic_minor += order.historic_minor;
            all.catalogue_minor += order.catalogue_minor;
            all.other_price += order.other_price;
            for (sku, quantity) in &order.lines {
                *all.units.entry(sku.clone()).or_default() += i64::from(*quantity);
            }
        }
        Self { placed, ..all }
    }

    /// `count` orders: those of the file, from the beginning again when they run out. An invoice
    /// that comes again has the number of the round behind it.
    pub(super) fn repeated(&self, count: usize) -> Self {
        let rounds = (0..).flat_map(|round: usize| {
            self.placed.iter().map(move |order| match round {
                0 => order.clone(),
                _ => Order { invoice: format!("{}-{}", order.invoice, round + 1), ..order.clone() },
            })
        });
        Self::of(rounds.take(count).collect())
    }
}

impl Order {
    fn add(&mut self, line: &Line, catalogue: &Catalogue) -> anyhow::Result<()> {
        let product = catalogue.products.get(&line.sku).with_context(|| {
            format!(
                "invoice {} has the SKU {}, which is not in the catalogue",
                line.invoice, line.sku
            )
        })?;
        let quantity = i64::from(line.quantity);
        self.file_lines += 1;
        self.historic_minor += quantity * line.unit_price_minor;
        self.catalogue_minor += quantity * product.unit_price_minor;
        self.other_price += u64::from(line.unit_price_minor != product.unit_price_minor);
        *self.lines.entry(line.sku.clone()).or_default() += line.quantity;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const HEADER: &str = "invoice,time,customer,country,sku,quantity,unit_price_minor\n";

    fn catalogue() -> Catalogue {
        Catalogue::parse(b"sku,name,unit_price_minor\nA,a,10\nB,b,7\n").unwrap()
    }

    fn parse(rows: &str, limit: usize) -> anyhow::Result<Orders> {
        Orders::parse(format!("{HEADER}{rows}").as_bytes(), limit, &catalogue())
    }

    #[test]
    fn the_lines_of_an_invoice_are_one_order_and_a_sku_is_in_it_once() {
        let rows = "1,t,7,UK,A,2,10\n1,t,7,UK,B,1,7\n1,t,7,UK,A,3,9\n2,t,8,UK,B,1,7\n";
        let all = parse(rows, usize::MAX).unwrap();
        assert_eq!(all.placed.len(), 2);
        assert_eq!(all.placed[0].lines, BTreeMap::from([("A".to_owned(), 5), ("B".to_owned(), 1)]));
        assert_eq!(all.placed[1].customer, "8");
        assert_eq!((all.placed[0].catalogue_minor, all.placed[1].catalogue_minor), (57, 7));
        assert_eq!(all.units, BTreeMap::from([("A".to_owned(), 5), ("B".to_owned(), 2)]));
        assert_eq!((all.lines, all.other_price), (4, 1));
        assert_eq!((all.historic_minor, all.catalogue_minor), (20 + 7 + 27 + 7, 50 + 14));
    }

    #[test]
    fn a_limit_counts_orders_and_only_they_count() {
        let all = parse("1,t,7,UK,A,2,10\n1,t,7,UK,B,1,7\n2,t,8,UK,B,1,7\n", 1).unwrap();
        assert_eq!((all.placed.len(), all.lines, all.units["B"]), (1, 2, 1));
    }

    #[test]
    fn repeated_orders_are_orders_of_their_own_and_all_of_them_count() {
        let file = parse("1,t,7,UK,A,2,10\n2,t,8,UK,B,1,8\n", 9).unwrap();
        let all = file.repeated(5);
        let invoices: Vec<&str> = all.placed.iter().map(|order| order.invoice.as_str()).collect();
        assert_eq!(invoices, ["1", "2", "1-2", "2-2", "1-3"]);
        assert_eq!(all.units, BTreeMap::from([("A".to_owned(), 6), ("B".to_owned(), 2)]));
        assert_eq!((all.lines, all.other_price), (5, 2));
        assert_eq!((all.historic_minor, all.catalogue_minor), (60 + 16, 60 + 14));
        assert_eq!(file.repeated(1).placed.len(), 1);
    }

    #[test]
    fn the_week_that_comes_along_fits_the_catalogue_that_comes_along() {
        let all = Orders::read(None, usize::MAX, &Catalogue::read(None).unwrap()).unwrap();
        assert_eq!((all.placed.len(), all.lines), (428, 8444));
    }

    #[test]
    fn a_product_that_is_not_in_the_catalogue_is_named() {
        let error = parse("1,t,7,UK,C,2,10\n", 9).unwrap_err().to_string();
        assert!(error.contains("SKU C"), "{error}");
        assert!(parse("", 9).is_err());
    }

    #[test]
    fn a_packed_file_is_unpacked() {
        let dir = std::env::temp_dir();
        let file = dir.join(format!("portolan-orders-{}.csv.gz", std::process::id()));
        let mut packer = flate2::write::GzEncoder::new(
            File::create(&file).unwrap(),
            flate2::Compression::fast(),
        );
        packer.write_all(format!("{HEADER}1,t,7,UK,A,2,10\n").as_bytes()).unwrap();
        packer.finish().unwrap();
        let all = Orders::read(Some(&file), usize::MAX, &catalogue()).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(all.placed[0].lines["A"], 2);
    }
}

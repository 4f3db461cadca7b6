use Decision::{Ignore, Impossible as Never, Retry};

use super::*;

const fn at(status: Option<Status>, attempted: bool, confirmed: bool) -> Position {
    Position { status, attempted, confirmed }
}

/// The table of the design, cell by cell. Columns in the order of [`Event::ALL`].
#[test]
fn every_pair_of_status_and_event_is_decided_as_designed() {
    use Status::{
        Authorized, Authorizing, Cancelled, CaptureFailed, Captured, Capturing, Declined, Voided,
        Voiding,
    };
    let to = |status| intend(status);
    let told = |status| tell(status, None);
    let auth = tell(Authorized, Some(Ledger::Auth));
    let take = tell(Captured, Some(Ledger::Capture));
    let let_go = tell(Voided, Some(Ledger::Void));
    #[rustfmt::skip]
    let table: [(Position, [Decision; 11]); 14] = [
        //                                      reserved         approve decline         unknown captured refused              voided  nothing       refused confirmed      cancelled
        (at(None, false, false),                [to(Authorizing), Never, Never,          Never,  Never,   Never,               Never,  Never,        Never,  Never,         to(Cancelled)]),
        (at(Some(Authorizing), false, false),   [Ignore,          auth,  told(Declined), Retry,  Never,   Never,               Never,  Never,        Never,  Never,         to(Cancelled)]),
        (at(Some(Authorizing), true, false),    [Ignore,          auth,  told(Declined), Retry,  Never,   Never,               Never,  Never,        Never,  Never,         to(Voiding)]),
        (at(Some(Authorized), false, false),    [Ignore,          Ignore, Never,         Ignore, Never,   Never,               Never,  Never,        Never,  to(Capturing), to(Voiding)]),
        (at(Some(Declined), false, false),      [Ignore,          Never, Ignore,         Ignore, Never,   Never,               Never,  Never,        Never,  Never,         Ignore]),
        (at(Some(Capturing), false, true),      [Ignore,          Ignore, Never,         Retry,  take,    told(CaptureFailed), Never,  Never,        Never,  Ignore,        Never]),
        (at(Some(Capturing), true, true),       [Ignore,          Ignore, Never,         Retry,  take,    told(CaptureFailed), Never,  Never,        Never,  Ignore,        Never]),
        (at(Some(Captured), false, true),       [Ignore,          Ignore, Never,         Ignore, Ignore,  Never,               Never,  Never,        Never,  Ignore,        Never]),
        (at(Some(CaptureFailed), false, true),  [Ignore,          Ignore, Never,         Ignore, Never,   Ignore,              Never,  Never,        Never,  Ignore,        to(Voiding)]),
        (at(Some(Voiding), true, false),        [Ignore,          Ignore, Ignore,        Retry,  Never,   Never,               let_go, told(Voided), Never,  Never,         Ignore]),
        (at(Some(Voiding), true, true),         [Ignore,          Ignore, Ignore,        Retry,  Never,   Ignore,              let_go, told(Voided), Never,  Ignore,        Ignore]),
        (at(Some(Voided), false, false),        [Ignore,          Ignore, Ignore,        Ignore, Never,   Never,               Ignore, Ignore,       Never,  Never,         Ignore]),
        (at(Some(Voided), false, true),         [Ignore,          Ignore, Ignore,        Ignore, Never,   Ignore,              Ignore, Ignore,       Never,  Ignore,        Ignore]),
        (at(Some(Cancelled), false, false),     [Ignore,          Never, Never,          Never,  Never,   Never,               Never,  Never,        Never,  Never,         Ignore]),
    ];
    for (position, decisions) in table {
        for (event, expected) in Event::ALL.into_iter().zip(decisions) {
            assert_eq!(decide(position, event), expected, "{position:?}, {event:?}");
        }
    }
    for status in Status::ALL {
        assert!(table.iter().any(|(position, _)| position.status == Some(status)), "{status}");
    }
}

#[test]
fn every_status_survives_its_text_form() {
    for status in Status::ALL {
        assert_eq!(status.as_str().parse(), Ok(status));
    }
    assert!("PAID".parse::<Status>().is_err());
}

#[test]
fn an_impossible_event_is_explained() {
    let status = Some(Status::Captured);
    let text = Impossible { status, event: Event::Cancelled }.to_string();
    assert_eq!(text, "cancelled cannot happen to a payment that is CAPTURED");
}

//! What must hold: the auditor's invariants, as far as they are about the machines.

use portolan_inventory::domain::State as Shelved;
use portolan_notification::domain::Kind;
use portolan_order::domain::State;
use portolan_payment::{domain::Status, psp::AuthorizationStatus};

use crate::{
    Saga, Violation,
    world::{QUANTITY, World},
};

impl World {
    /// What must hold at any time.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self) -> Result<(), Violation> {
        self.shelf()?;
        for saga in &self.orders {
            let decided = matches!(saga.order.state, State::Confirmed | State::Completed);
            let captured = saga.provider.captures;
            unless(captured <= 1, || format!("captured {captured} times"))?;
            unless(captured == 0 || decided, || format!("captured: {:?}", saga.order))?;
            let both = saga.order.captured && saga.order.committed;
            let completed = saga.order.state == State::Completed;
            unless(both == completed, || format!("not complete: {:?}", saga.order))?;
        }
        if self.due().is_empty() { self.check_rest() } else { Ok(()) }
    }

    fn shelf(&self) -> Result<(), Violation> {
        let (level, booked) = (self.level, self.booked);
        let set_aside = self.reservations.values().filter(|r| r.state == Shelved::Reserved).count();
        let gone = self.reservations.values().filter(|r| r.state == Shelved::Committed).count();
        let pieces =
            |orders: usize| i64::try_from(orders).unwrap_or(i64::MAX) * i64::from(QUANTITY);
        let holds = level.available >= 0
            && level.reserved == pieces(set_aside)
            && level.available == self.opening - pieces(set_aside) - pieces(gone)
            && level.available == self.opening + booked.available
            && level.reserved == booked.reserved;
        unless(holds, || format!("{level:?} with {set_aside} set aside and {gone} gone"))
    }

    /// What must hold when nothing is under way.
    fn check_rest(&self) -> Result<(), Violation> {
        for saga in &self.orders {
            let shelved = self.reservations.get(&saga.id).map(|reservation| reservation.state);
            match saga.order.state {
                State::Completed => completed(saga, shelved)?,
                State::Cancelled => cancelled(saga, shelved)?,
                // The deadline will end it.
                State::Pending | State::AwaitingPayment => {}
                State::Confirmed => return Err(Violation("confirmed for ever".to_owned())),
            }
        }
        Ok(())
    }
}

fn completed(saga: &Saga, shelved: Option<Shelved>) -> Result<(), Violation> {
    let status = saga.payment.as_ref().map(|payment| payment.status);
    let holds = shelved == Some(Shelved::Committed)
        && status == Some(Status::Captured)
        && saga.provider.captures == 1
        && saga.letter == Some(Kind::Confirmed);
    unless(holds, || format!("completed with {shelved:?}, {status:?}, {:?}", saga.letter))
}

fn cancelled(saga: &Saga, shelved: Option<Shelved>) -> Result<(), Violation> {
    let status = saga.payment.as_ref().map(|payment| payment.status);
    let money =
        matches!(status, None | Some(Status::Declined | Status::Voided | Status::Cancelled));
    let holds = matches!(shelved, Some(Shelved::Rejected | Shelved::Released { .. }))
        && money
        && saga.provider.captures == 0
        && saga.provider.status != Some(AuthorizationStatus::Open)
        && saga.letter == Some(Kind::Cancelled);
    let held = saga.provider.status;
    unless(holds, || format!("cancelled with {shelved:?}, {status:?}, {held:?}, {:?}", saga.letter))
}

fn unless(holds: bool, complaint: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(complaint())) }
}

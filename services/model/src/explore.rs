//! All schedules, each state once (depth first).

use std::collections::HashSet;

use crate::{Action, Violation, World};

/// What an exploration has seen.
#[derive(Debug, Default)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// How the orders had ended wherever nothing was under way, in words.
    pub endings: HashSet<String>,
}

/// A schedule that ends badly.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{violation} after {schedule:#?}")]
pub struct Counterexample {
    /// What happened, in order.
    pub schedule: Vec<Action>,
    /// What came of it.
    pub violation: Violation,
}

/// Goes through everything that may happen from here.
///
/// # Errors
/// A schedule that ends badly.
pub fn explore(start: World) -> Result<Explored, Box<Counterexample>> {
    let mut explored = Explored::default();
    let mut seen = HashSet::from([start.fingerprint()]);
    // With each state the actions that are left to try, and the one that led to it.
    let actions = start.actions();
    let mut path = vec![(start, actions, None)];
    while let Some((world, actions, _)) = path.last_mut() {
        let Some(action) = actions.pop() else {
            path.pop();
            continue;
        };
        let mut next = world.clone();
        if let Err(violation) = next.act(action) {
            let taken = path.iter().filter_map(|(_, _, action)| *action);
            return Err(Box::new(Counterexample {
                schedule: taken.chain([action]).collect(),
                violation,
            }));
        }
        if seen.insert(next.fingerprint()) {
            if next.due().is_empty() {
                explored.endings.insert(ending(&next));
            }
            let actions = next.actions();
            path.push((next, actions, Some(action)));
        }
    }
    explored.states = seen.len();
    Ok(explored)
}

fn ending(world: &World) -> String {
    let each = world.orders.iter().map(|saga| {
        let reason = saga.order.reason.map_or("", portolan_order::domain::Reason::as_str);
        format!("{} {reason}", saga.order.state).trim().to_owned()
    });
    each.collect::<Vec<_>>().join(", ")
}

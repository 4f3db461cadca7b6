use tokio::sync::mpsc;

/// So many of `of` that any two sets of so many have one in common.
pub(crate) const fn majority(of: usize) -> usize {
    of / 2 + 1
}

/// What one master says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote<Y, N> {
    Yes(Y),
    No(N),
    /// No answer in time.
    Silent,
}

/// What all of them say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A majority agrees.
    Granted,
    /// A majority answered, and no majority agrees.
    Refused,
    /// No majority answers.
    Unreachable,
}

/// Counts votes.
#[derive(Clone, Copy, Debug)]
struct Tally {
    of: usize,
    yes: usize,
    no: usize,
    silent: usize,
}

impl Tally {
    const fn new(of: usize) -> Self {
        Self { of, yes: 0, no: 0, silent: 0 }
    }

    /// The verdict, as soon as no further vote can change it.
    const fn verdict(&self) -> Option<Verdict> {
        let (needed, answered) = (majority(self.of), self.yes + self.no);
        if self.yes >= needed {
            Some(Verdict::Granted)
        } else if self.silent > self.of - needed {
            Some(Verdict::Unreachable)
        } else if answered >= needed && self.no + self.silent > self.of - needed {
            Some(Verdict::Refused)
        } else {
            None
        }
    }
}

/// What was said until the verdict.
#[derive(Debug)]
pub(crate) struct Count<Y, N> {
    pub(crate) verdict: Verdict,
    pub(crate) yes: Vec<Y>,
    pub(crate) no: Vec<N>,
}

/// Counts the votes of `of` voters until there is a verdict; those that come later are nobody's
/// business any more. A voter that is gone without a vote is silent.
pub(crate) async fn count<Y, N>(
    of: usize,
    mut votes: mpsc::UnboundedReceiver<Vote<Y, N>>,
) -> Count<Y, N> {
    let (mut tally, mut yes, mut no) = (Tally::new(of), Vec::new(), Vec::new());
    loop {
        if let Some(verdict) = tally.verdict() {
            return Count { verdict, yes, no };
        }
        match votes.recv().await {
            Some(Vote::Yes(vote)) => {
                tally.yes += 1;
                yes.push(vote);
            }
            Some(Vote::No(vote)) => {
                tally.no += 1;
                no.push(vote);
            }
            Some(Vote::Silent) => tally.silent += 1,
            None => tally.silent = of - tally.yes - tally.no,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally(of: usize, votes: &[Vote<(), ()>]) -> Tally {
        let mut tally = Tally::new(of);
        for vote in votes {
            match vote {
                Vote::Yes(()) => tally.yes += 1,
                Vote::No(()) => tally.no += 1,
                Vote::Silent => tally.silent += 1,
            }
        }
        tally
    }

    fn votes() -> impl Strategy<Value = Vec<Vote<(), ()>>> {
        let vote = prop_oneof![Just(Vote::Yes(())), Just(Vote::No(())), Just(Vote::Silent)];
        proptest::collection::vec(vote, 1..=9)
    }

    proptest! {
        #[test]
        fn any_two_majorities_share_a_master(of in 1_usize..1_000) {
            prop_assert!(2 * majority(of) > of);
            prop_assert!(2 * (majority(of) - 1) <= of, "and fewer would not do");
        }

        #[test]
        fn a_verdict_is_final_and_comes_with_the_last_vote_at_the_latest(votes in votes()) {
            let of = votes.len();
            let verdicts: Vec<_> =
                (0..=of).map(|seen| tally(of, &votes[..seen]).verdict()).collect();
            let last = verdicts[of];
            prop_assert!(last.is_some());
            for verdict in verdicts.into_iter().flatten() {
                prop_assert_eq!(Some(verdict), last);
            }
        }

        #[test]
        fn two_claims_are_never_both_granted_by_masters_that_agree_to_one(
            votes in votes(),
        ) {
            // Each master that says yes to one says no to the other.
            let other: Vec<Vote<(), ()>> = votes
                .iter()
                .map(|vote| match vote {
                    Vote::Yes(()) => Vote::No(()),
                    Vote::No(()) => Vote::Yes(()),
                    Vote::Silent => Vote::Silent,
                })
                .collect();
            let granted = |votes: &[_]| tally(votes.len(), votes).verdict() == Some(Verdict::Granted);
            prop_assert!(!(granted(&votes) && granted(&other)));
        }
    }

    #[tokio::test]
    async fn the_first_majority_decides_and_the_lost_are_silent() {
        let (sender, votes) = mpsc::unbounded_channel();
        sender.send(Vote::<i32, ()>::Yes(1)).unwrap();
        sender.send(Vote::Yes(2)).unwrap();
        let counted = count(3, votes).await;
        assert_eq!((counted.verdict, counted.yes), (Verdict::Granted, vec![1, 2]));

        let (sender, votes) = mpsc::unbounded_channel();
        sender.send(Vote::<i32, ()>::No(())).unwrap();
        drop(sender);
        assert_eq!(count(3, votes).await.verdict, Verdict::Unreachable);
    }
}

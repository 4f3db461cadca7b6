//! Who places the orders.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use secrecy::SecretString;
use tokio::{
    sync::{Mutex, Semaphore, SemaphorePermit},
    time::Instant,
};

use super::file::Order;
use crate::{
    gateway::{self, Refusal, patiently},
    local::Role,
    token::Signer,
    users::User,
};

/// A signed token is for one request; this leaves room for one that waits.
const TOKEN_TTL: Duration = Duration::from_mins(5);
/// A token is not used for the last part of its life: the request has to arrive, too.
const MARGIN: Duration = Duration::from_secs(30);
/// How long the first log-ins may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The customers of the file as users of the shop.
#[derive(Clone, Debug)]
pub(super) enum Customers {
    /// Each is a user of their own, with tokens signed by the issuer's key. As many as the file
    /// has can place orders at the same time.
    Signed(Signer),
    /// They share the users that can log in. A user places one order at a time, so there is as
    /// much traffic as there are users.
    LoggedIn(Arc<Accounts>),
}

/// Users that are logged in.
#[derive(Debug)]
pub(super) struct Accounts {
    http: reqwest::Client,
    base: String,
    by_name: BTreeMap<String, Account>,
}

#[derive(Debug)]
struct Account {
    user: User,
    /// The token and when it is not to be used any more.
    token: Mutex<Option<(SecretString, Instant)>>,
    /// Held while the user places an order.
    turn: Semaphore,
}

impl Customers {
    /// Logs in at the gateway `base` and keeps those of the users who may place orders.
    ///
    /// # Errors
    /// Somebody cannot log in, or nobody may place orders.
    pub(super) async fn log_in(base: &str, users: Vec<User>) -> anyhow::Result<Self> {
        let mut accounts = Accounts {
            http: gateway::client()?,
            base: gateway::base(base)?,
            by_name: BTreeMap::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        for user in users {
            let name = user.name.clone();
            let (token, turn) = (Mutex::new(None), Semaphore::new(1));
            let account = Account { user, token, turn };
            let customer = patiently(deadline, || accounts.is_customer(&account))
                .await
                .map_err(|refusal| anyhow::anyhow!(refusal.why().to_owned()))
                .with_context(|| format!("{name} cannot log in"))?;
            if customer {
                accounts.by_name.insert(name, account);
            }
        }
        ensure!(!accounts.by_name.is_empty(), "none of the users is a customer");
        Ok(Self::LoggedIn(Arc::new(accounts)))
    }

    /// Gives every order to a user of the shop: all of one customer to the same.
    pub(super) fn adopt(&self, orders: &mut [Order]) {
        let Self::LoggedIn(accounts) = self else { return };
        let users: Vec<&String> = accounts.by_name.keys().collect();
        share_out(orders, &users);
    }

    /// A token of the user.
    pub(super) async fn token(&self, user: &str) -> Result<SecretString, Refusal> {
        match self {
            Self::Signed(signer) => signer
                .sign(user, Role::Customer, TOKEN_TTL)
                .map_err(|error| Refusal::Never(format!("{error:#}"))),
            Self::LoggedIn(accounts) => match accounts.by_name.get(user) {
                Some(account) => accounts.token(account).await,
                None => Err(Refusal::Never(format!("{user} is not logged in"))),
            },
        }
    }

    /// Forgets a token that was refused.
    pub(super) async fn renew(&self, user: &str) {
        if let Self::LoggedIn(accounts) = self
            && let Some(account) = accounts.by_name.get(user)
        {
            *account.token.lock().await = None;
        }
    }

    /// Waits until the user places no other order of ours. Users of their own meet only by
    /// chance, and may then be told to wait like anybody.
    pub(super) async fn turn(&self, user: &str) -> Option<SemaphorePermit<'_>> {
        match self {
            Self::Signed(_) => None,
            Self::LoggedIn(accounts) => accounts.by_name.get(user)?.turn.acquire().await.ok(),
        }
    }
}

impl Accounts {
    async fn is_customer(&self, account: &Account) -> Result<bool, Refusal> {
        let token = self.token(account).await?;
        gateway::is_customer(&self.http, &self.base, &token).await
    }

    async fn token(&self, account: &Account) -> Result<SecretString, Refusal> {
        let mut kept = account.token.lock().await;
        if let Some((token, until)) = kept.as_ref()
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let User { name, password } = &account.user;
        let fresh = gateway::log_in(&self.http, &self.base, name, password).await?;
        let until = Instant::now() + fresh.lasts().saturating_sub(MARGIN);
        *kept = Some((fresh.text.clone(), until));
        Ok(fresh.text)
    }
}

fn share_out(orders: &mut [Order], users: &[&String]) {
    let mut given: HashMap<String, String> = HashMap::new();
    for order in orders {
        let next = given.len();
        let user = given.entry(order.customer.clone()).or_insert_with(|| {
            users.get(next % users.len().max(1)).map_or_else(String::new, |user| (*user).clone())
        });
        order.customer.clone_from(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_share_the_customers_of_the_file_evenly_and_each_customer_is_one_user() {
        let order = |customer: &str| Order { customer: customer.to_owned(), ..Order::default() };
        let mut orders = ["7", "8", "7", "9", "8"].map(order);
        let (alice, bob) = ("alice".to_owned(), "bob".to_owned());
        share_out(&mut orders, &[&alice, &bob]);
        let users: Vec<&str> = orders.iter().map(|order| order.customer.as_str()).collect();
        assert_eq!(users, ["alice", "bob", "alice", "alice", "bob"]);
    }
}

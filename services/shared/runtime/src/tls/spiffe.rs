use std::{fmt, str::FromStr};

use super::Domain;

const SCHEME: &str = "spiffe://";
/// Limits of the SPIFFE standard ("SPIFFE-ID", section 2.3).
const MAX_LENGTH: usize = 2048;
const MAX_TRUST_DOMAIN: usize = 255;

/// Who a process is: `spiffe://<trust domain>/<path>`, by the standard "SPIFFE-ID" a URI (RFC 3986)
/// of fewer forms than most, so that two texts are the same identity only if they are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId(String);

/// A text that is no SPIFFE id. It is of a peer's choosing and not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Longer than the standard allows.
    #[error("the SPIFFE id is too long")]
    Length,
    /// It does not begin with `spiffe://`.
    #[error("the URI is no SPIFFE id")]
    Scheme,
    /// Empty, or not of lower-case letters, digits, dots, dashes and underscores.
    #[error("the SPIFFE id has no valid trust domain")]
    TrustDomain,
    /// A segment is empty, `.` or `..`, or has a character that needs no escape elsewhere.
    #[error("the SPIFFE id has no valid path")]
    Path,
}

impl SpiffeId {
    /// Reads an id, strictly: no port, user, query, fragment, escape or trailing slash.
    ///
    /// # Errors
    /// The text is no SPIFFE id.
    pub fn parse(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > MAX_LENGTH {
            return Err(SpiffeError::Length);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeError::Scheme)?;
        let (domain, path) = rest.split_once('/').map_or((rest, None), |(d, p)| (d, Some(p)));
        if !is_trust_domain(domain) {
            return Err(SpiffeError::TrustDomain);
        }
        if !path.is_none_or(|path| path.split('/').all(is_segment)) {
            return Err(SpiffeError::Path);
        }
        Ok(Self(text.to_owned()))
    }

    /// The id of a component in the mesh of `domain`.
    pub(super) fn of(domain: &Domain, component: &str) -> Self {
        let Domain { trust_domain, namespace, prefix } = domain;
        Self(format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{prefix}{component}"))
    }

    /// The part before the path.
    pub fn trust_domain(&self) -> &str {
        let rest = self.0.strip_prefix(SCHEME).unwrap_or_default();
        rest.split_once('/').map_or(rest, |(domain, _)| domain)
    }

    /// Which component of `domain` this is, or none: of another trust domain, another namespace,
    /// another installation.
    pub fn component(&self, domain: &Domain) -> Option<&str> {
        let rest = self.0.strip_prefix(SCHEME)?.strip_prefix(&domain.trust_domain)?;
        let rest = rest.strip_prefix("/ns/")?.strip_prefix(&domain.namespace)?;
        let account = rest.strip_prefix("/sa/")?.strip_prefix(&domain.prefix)?;
        (!account.is_empty() && !account.contains('/')).then_some(account)
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) fn is_trust_domain(text: &str) -> bool {
    let allowed = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    !text.is_empty() && text.len() <= MAX_TRUST_DOMAIN && text.bytes().all(allowed)
}

pub(super) fn is_segment(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    !matches!(text, "" | "." | "..") && text.bytes().all(allowed)
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domain(prefix: &str) -> Domain {
        let (trust_domain, namespace) = ("portolan.local".to_owned(), "shop".to_owned());
        Domain { trust_domain, namespace, prefix: prefix.to_owned() }
    }

    #[test]
    fn what_the_standard_forbids_is_no_id() {
        use SpiffeError::{Length, Path, Scheme, TrustDomain};
        let long = format!("spiffe://a/{}", "b".repeat(MAX_LENGTH));
        let cases = [
            ("", Scheme),
            ("https://portolan.local/ns/shop", Scheme),
            ("SPIFFE://portolan.local/x", Scheme),
            ("spiffe:/portolan.local/x", Scheme),
            ("spiffe://", TrustDomain),
            ("spiffe:///ns/shop", TrustDomain),
            ("spiffe://Portolan.local/x", TrustDomain),
            ("spiffe://portolan.local:8443/x", TrustDomain),
            ("spiffe://user@portolan.local/x", TrustDomain),
            ("spiffe://portolan.local?x", TrustDomain),
            ("spiffe://portolan.local#x", TrustDomain),
            ("spiffe://portolan%2elocal/x", TrustDomain),
            ("spiffe://[::1]/x", TrustDomain),
            ("spiffe://portolan.local/", Path),
            ("spiffe://portolan.local/x/", Path),
            ("spiffe://portolan.local//x", Path),
            ("spiffe://portolan.local/./x", Path),
            ("spiffe://portolan.local/x/..", Path),
            ("spiffe://portolan.local/x?y", Path),
            ("spiffe://portolan.local/x#y", Path),
            ("spiffe://portolan.local/%41", Path),
            ("spiffe://portolan.local/x*", Path),
            ("spiffe://portolan.local/x y", Path),
            ("spiffe://portolan.local/x\0", Path),
            (long.as_str(), Length),
        ];
        for (text, error) in cases {
            assert_eq!(SpiffeId::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_component_is_one_of_exactly_this_installation() {
        let blue = domain("blue-");
        let component = |text: &str| {
            let id = SpiffeId::parse(text).unwrap();
            id.component(&blue).map(ToOwned::to_owned)
        };
        let order = Some("order".to_owned());
        assert_eq!(component("spiffe://portolan.local/ns/shop/sa/blue-order"), order);
        for other in [
            "spiffe://portolan.local",
            "spiffe://portolan.local/ns/shop/sa/order",
            "spiffe://portolan.local/ns/shop/sa/green-order",
            "spiffe://portolan.local/ns/shop/sa/blue-",
            "spiffe://portolan.local/ns/shop/sa/blue-order/x",
            "spiffe://portolan.local/ns/shop2/sa/blue-order",
            "spiffe://portolan.local/ns/sho/sa/blue-order",
            "spiffe://portolan.local.evil/ns/shop/sa/blue-order",
            "spiffe://portolan.loca/ns/shop/sa/blue-order",
        ] {
            assert_eq!(component(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn every_id_by_the_grammar_is_read_and_written_the_same(
            domain in "[a-z0-9._-]{1,40}",
            path in prop::collection::vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}", 0..5),
        ) {
            let path = path.iter().fold(String::new(), |path, segment| path + "/" + segment);
            let text = format!("spiffe://{domain}{path}");
            let id = SpiffeId::parse(&text).unwrap();
            prop_assert_eq!(id.to_string(), text);
            prop_assert_eq!(id.trust_domain(), domain);
        }

        #[test]
        fn whatever_is_read_has_only_characters_of_the_grammar(
            text in "(spiffe://)?[a-z%:@?#/. -]{0,30}|.*"
        ) {
            if let Ok(id) = SpiffeId::parse(&text) {
                let rest = id.as_str().strip_prefix("spiffe://").unwrap();
                let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
                prop_assert!(rest.chars().all(allowed));
                prop_assert!(!rest.contains("//") && !rest.ends_with('/'));
            }
        }

        #[test]
        fn the_id_of_a_component_names_it(name in "[a-z][a-z0-9-]{0,20}", prefix in "([a-z]{1,5}-)?") {
            let domain = domain(&prefix);
            let id = SpiffeId::parse(domain.id(&name).as_str()).unwrap();
            prop_assert_eq!(id.component(&domain), Some(name.as_str()));
        }
    }
}

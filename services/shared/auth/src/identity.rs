use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Claims, Role, valid_subject};

const SUBJECT: HeaderName = HeaderName::from_static("portolan-subject-bin");
const ROLES: HeaderName = HeaderName::from_static("portolan-roles");

/// How gRPC carries what need not be ASCII: written without padding, read with and without.
const BINARY: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who is behind a call between services: what the gateway verified of the caller's token. The token
/// itself stays with the gateway.
///
/// It travels as metadata of the call, `portolan-subject-bin` and `portolan-roles`, and is worth as
/// much as the channel it came over: with mutual TLS, only the gateway is let in where it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    subject: String,
    roles: Vec<Role>,
}

impl Identity {
    /// Somebody with these roles.
    pub fn new(subject: impl Into<String>, roles: &[Role]) -> Self {
        Self { subject: subject.into(), roles: roles.to_vec() }
    }

    /// The caller's name: the user id of every service.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether the caller is this.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Says it in the metadata of a call.
    pub fn write(&self, headers: &mut HeaderMap) {
        let roles = self.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" ");
        for (name, text) in [(SUBJECT, BINARY.encode(&self.subject)), (ROLES, roles)] {
            // Base64 and our own words are always good values.
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
    }

    /// What the metadata of a call says; `None` if that is nobody, or more than one. A role that is
    /// not known counts for nothing.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let subject = BINARY.decode(only(headers, &SUBJECT)?).ok()?;
        let subject = String::from_utf8(subject).ok().filter(|subject| valid_subject(subject))?;
        let roles = only(headers, &ROLES)?.split(' ').filter_map(|role| role.parse().ok());
        Some(Self { subject, roles: roles.collect() })
    }
}

impl From<&Claims> for Identity {
    fn from(claims: &Claims) -> Self {
        let roles = [Role::Customer, Role::Operator].into_iter().filter(|role| claims.has(*role));
        Self { subject: claims.sub.clone(), roles: roles.collect() }
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            subject in "\\PC{1,60}",
            roles in prop::sample::subsequence(vec![Role::Customer, Role::Operator], 0..=2),
        ) {
            prop_assume!(valid_subject(&subject));
            let (identity, mut headers) = (Identity::new(subject, &roles), HeaderMap::new());
            identity.write(&mut headers);
            prop_assert_eq!(Identity::read(&headers), Some(identity));
        }

        #[test]
        fn whatever_comes_is_read_without_a_panic(subject in ".*", roles in ".*") {
            let mut headers = HeaderMap::new();
            for (name, text) in [(SUBJECT, subject), (ROLES, roles)] {
                headers.extend(HeaderValue::try_from(text).ok().map(|value| (name, value)));
            }
            let read = Identity::read(&headers);
            prop_assert!(read.is_none_or(|identity| valid_subject(identity.subject())));
        }
    }

    fn said(subject: &str, roles: &str) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        HeaderMap::from_iter([(SUBJECT, value(subject)), (ROLES, value(roles))])
    }

    #[test]
    fn nobody_is_whoever_is_not_named_once_and_in_full() {
        let alice = said("YWxpY2U", "customer");
        let identity = Identity::new("alice", &[Role::Customer]);
        assert_eq!(Identity::read(&alice), Some(identity.clone()));
        assert_eq!(Identity::read(&said("YWxpY2U=", "customer admin")), Some(identity));
        for bad in ["", "alice", "YQBi", "/w"] {
            assert_eq!(Identity::read(&said(bad, "operator")), None, "{bad:?}");
        }
        for name in [SUBJECT, ROLES] {
            let (mut less, mut more) = (alice.clone(), alice.clone());
            less.remove(&name);
            more.append(&name, alice[&name].clone());
            assert_eq!((Identity::read(&less), Identity::read(&more)), (None, None), "{name}");
        }
    }
}

use std::{collections::BTreeMap, sync::Arc};

use http::Extensions;
use serde::Deserialize;

use crate::{Invalid, PeerIdentity, Validate, tls::Domain};

/// `[callers]`: which component may call which methods of this service. What is not in here is
/// denied. It applies where callers have an identity, that is with `[tls]`.
///
/// A method is `package.Service/Method` for gRPC, the path without its first slash for HTTP, and
/// `*` for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Callers(BTreeMap<String, Vec<String>>);

const ALL: &str = "*";

impl Callers {
    /// Whether `component` may call `method`.
    pub fn allow(&self, component: &str, method: &str) -> bool {
        let methods = self.0.get(component);
        methods.is_some_and(|methods| methods.iter().any(|each| each == ALL || each == method))
    }

    /// Whether every method that is named is one of the service's: a misspelt one would deny its
    /// caller the real one, and nobody would know why. For the validation of a configuration.
    ///
    /// # Errors
    /// One is not among `methods`; the key is that of its caller.
    pub fn check(&self, methods: &[&str]) -> Result<(), Invalid> {
        self.validate()?;
        let unknown = |method: &&String| *method != ALL && !methods.contains(&method.as_str());
        for (component, named) in &self.0 {
            if let Some(method) = named.iter().find(unknown) {
                let problem =
                    format!("there is no method {method} (known: {})", methods.join(", "));
                return Err(Invalid::new(format!("callers.{component}"), problem));
            }
        }
        Ok(())
    }

    /// Whether the list knows `method` by its name.
    fn name(&self, method: &str) -> bool {
        self.0.values().flatten().any(|each| each == method)
    }
}

impl<C: Into<String>, M: Into<String>, const N: usize> FromIterator<(C, [M; N])> for Callers {
    fn from_iter<I: IntoIterator<Item = (C, [M; N])>>(callers: I) -> Self {
        let owned = |(component, methods): (C, [M; N])| {
            (component.into(), methods.into_iter().map(Into::into).collect())
        };
        Self(callers.into_iter().map(owned).collect())
    }
}

impl Validate for Callers {
    fn validate(&self) -> Result<(), Invalid> {
        for (component, methods) in &self.0 {
            let key = format!("callers.{component}");
            let usable = |method: &String| method == ALL || is_method(method);
            Invalid::unless(
                methods.iter().all(usable),
                &key,
                "must be a list of package.Service/Method, or *",
            )?;
        }
        Ok(())
    }
}

/// Who may call what on a port where every caller has an identity.
#[derive(Clone, Debug)]
pub(crate) struct Guard(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    callers: Callers,
    domain: Domain,
    /// What begins like this is open to everybody in the mesh.
    open: &'static [&'static str],
}

impl Guard {
    pub(crate) fn new(callers: &Callers, domain: &Domain, open: &'static [&'static str]) -> Self {
        metrics::describe_counter!(
            "portolan_denied_calls_total",
            "Calls of peers with a valid identity that may not make them."
        );
        Self(Arc::new(Rules { callers: callers.clone(), domain: domain.clone(), open }))
    }

    /// Whether a request may pass. If not, it is logged with who it was, which nobody is told.
    pub(crate) fn admits(&self, path: &str, extensions: &Extensions) -> bool {
        let Rules { callers, domain, open } = self.0.as_ref();
        let method = path.strip_prefix('/').unwrap_or(path);
        // Without an identity there is nobody to allow anything.
        let Some(PeerIdentity(id)) = extensions.get() else { return false };
        if open.iter().any(|prefix| method.starts_with(prefix)) {
            return true;
        }
        let component = id.component(domain);
        if component.is_some_and(|component| callers.allow(component, method)) {
            return true;
        }
        tracing::warn!(caller = %id, method, "call denied");
        let caller = component.unwrap_or(id.as_str()).to_owned();
        // A caller chooses what it asks for, and labels are kept for ever.
        let method = if callers.name(method) { method.to_owned() } else { "other".to_owned() };
        let labels = [("caller", caller), ("method", method)];
        metrics::counter!("portolan_denied_calls_total", &labels).increment(1);
        false
    }
}

/// A path of at least two segments, none of them empty, without the first slash.
fn is_method(text: &str) -> bool {
    text.contains('/') && text.split('/').all(|part| !part.is_empty() && !part.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_denied() {
        let callers: Callers = [("order", ["a.B/C"]), ("audit", ["*"])].into_iter().collect();
        assert!(callers.allow("order", "a.B/C") && callers.allow("audit", "x.Y/Z"));
        for (component, method) in [("order", "a.B/D"), ("payment", "a.B/C"), ("", "a.B/C")] {
            assert!(!callers.allow(component, method), "{component} {method}");
        }
        assert!(!Callers::default().allow("order", "a.B/C"));
    }

    #[test]
    fn a_method_that_does_not_exist_is_named_with_its_caller() {
        let callers: Callers = [("audit", ["*"]), ("order", ["a.B/Quota"])].into_iter().collect();
        let error = callers.check(&["a.B/Quote"]).unwrap_err();
        assert_eq!(error.key, "callers.order");
        assert!(error.problem.contains("a.B/Quota ") && error.problem.contains("a.B/Quote"));
        assert_eq!(callers.check(&["a.B/Quota"]), Ok(()));
        let nonsense: Callers = [("order", ["Quote"])].into_iter().collect();
        assert!(nonsense.check(&["Quote"]).is_err());
    }

    #[test]
    fn what_can_be_no_method_is_refused() {
        for bad in ["", "a.B", "/a.B/C", "a.B/", "a.B//C", "a.B/*x y"] {
            let callers: Callers = [("order", [bad])].into_iter().collect();
            assert!(callers.validate().is_err(), "{bad}");
        }
        let callers: Callers = [("order", ["a.B/C", "*"])].into_iter().collect();
        assert_eq!(callers.validate(), Ok(()));
    }
}

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Secret,
    /// A Secret with a certificate and its key.
    Certificate,
    ConfigMap,
}

impl Kind {
    pub(crate) const fn plural(self) -> &'static str {
        match self {
            Self::Secret | Self::Certificate => "secrets",
            Self::ConfigMap => "configmaps",
        }
    }

    /// For messages.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Secret | Self::Certificate => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }

    fn encode(self, value: &SecretString) -> String {
        match self {
            Self::Secret | Self::Certificate => STANDARD.encode(value.expose_secret()),
            Self::ConfigMap => value.expose_secret().to_owned(),
        }
    }

    fn decode(self, text: String) -> Option<SecretString> {
        let text = match self {
            Self::Secret | Self::Certificate => {
                String::from_utf8(STANDARD.decode(text).ok()?).ok()?
            }
            Self::ConfigMap => text,
        };
        Some(SecretString::from(text))
    }
}

/// An object that is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Object<'a> {
    pub kind: Kind,
    pub name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub data: BTreeMap<String, SecretString>,
}

impl Object<'_> {
    pub(super) fn body(&self) -> Value {
        let data: Map<String, Value> = self
            .data
            .iter()
            .map(|(key, value)| (key.clone(), self.kind.encode(value).into()))
            .collect();
        let mut body = json!({
            "apiVersion": "v1",
            "kind": self.kind.word(),
            "metadata": {"name": self.name, "labels": self.labels},
            "data": data,
        });
        if self.kind == Kind::Certificate {
            body["type"] = "kubernetes.io/tls".into();
        }
        body
    }
}

/// An object as it is stored.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Which version of it, for [`Changes::of`].
    pub version: String,
    pub data: BTreeMap<String, SecretString>,
}

#[derive(Deserialize)]
struct Raw {
    metadata: RawMetadata,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadata {
    resource_version: String,
}

impl Stored {
    /// `None` if it is no object, or holds what is no text.
    pub(super) fn read(kind: Kind, body: Value) -> Option<Self> {
        let raw: Raw = serde_json::from_value(body).ok()?;
        let data = raw.data.unwrap_or_default().into_iter();
        let data =
            data.map(|(key, text)| Some((key, kind.decode(text)?))).collect::<Option<_>>()?;
        Some(Self { version: raw.metadata.resource_version, data })
    }

    /// One value, if it is there and not empty.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.data.get(key).map(ExposeSecret::expose_secret).filter(|value| !value.is_empty())
    }
}

/// What becomes of one value.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Set(SecretString),
    Remove,
}

/// Changes to the values of an object, all of them or none (RFC 7386).
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes<'a> {
    /// The version that they are meant for; another one is refused. Without, any version will do.
    pub of: Option<&'a str>,
    pub values: Vec<(String, Change)>,
    /// Everything but the doing: whether it would be allowed.
    pub rehearsal: bool,
}

impl Changes<'_> {
    pub(super) fn body(&self, kind: Kind) -> Value {
        let value = |change: &Change| match change {
            Change::Set(value) => kind.encode(value).into(),
            Change::Remove => Value::Null,
        };
        let values = self.values.iter().map(|(key, change)| (key.clone(), value(change)));
        let mut body = json!({"data": values.collect::<Map<_, _>>()});
        if let Some(version) = self.of {
            body["metadata"] = json!({"resourceVersion": version});
        }
        body
    }
}

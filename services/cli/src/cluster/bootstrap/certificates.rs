use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};
use time::{Duration, OffsetDateTime};

use super::{Bootstrap, Change, Changes, Kind, Object, config::CertificateConfig, root::CA};
use crate::{
    cluster::kubernetes::Stored,
    out,
    pki::{Authority, Certificate, LeafRequest},
};

/// What has less time left is replaced: upgrades may be a month apart.
const LEFT: Duration = Duration::days(30);

impl Bootstrap<'_> {
    /// A certificate of the infrastructure, made if it is missing and replaced if it is not good
    /// for long.
    pub(super) async fn certificate(
        self,
        root: &Authority,
        wanted: &CertificateConfig,
        now: OffsetDateTime,
    ) -> anyhow::Result<()> {
        let (name, request) = (&*wanted.secret, wanted.request(self.config));
        loop {
            let Some(stored) = self.kubernetes.get(Kind::Certificate, name).await? else {
                let data = pair(root, &request, now)?;
                let labels = &self.config.labels;
                if self.make(&Object { kind: Kind::Certificate, name, labels, data }).await? {
                    return Ok(());
                }
                continue;
            };
            let Some(why) = unfit(&stored, root, &request, now) else { return Ok(()) };
            let values = pair(root, &request, now)?.into_iter();
            let changes = Changes {
                of: Some(&stored.version),
                values: values.map(|(key, value)| (key, Change::Set(value))).collect(),
                rehearsal: false,
            };
            if self.kubernetes.patch(Kind::Certificate, name, &changes).await? {
                out::line(&format!("renewed Secret {name}: {why}"));
                return Ok(());
            }
        }
    }
}

/// The values of the Secret, of one certificate and its key.
fn pair(
    root: &Authority,
    request: &LeafRequest,
    now: OffsetDateTime,
) -> anyhow::Result<BTreeMap<String, SecretString>> {
    let leaf = root.issue(request, now)?;
    let bundle = [leaf.key.expose_secret(), &leaf.certificate].concat();
    Ok(BTreeMap::from([
        ("tls.crt".to_owned(), SecretString::from(leaf.certificate)),
        ("tls.key".to_owned(), leaf.key),
        (CA.to_owned(), SecretString::from(root.pem())),
        ("bundle.pem".to_owned(), SecretString::from(bundle)),
    ]))
}

/// Why a certificate cannot stay.
fn unfit(
    stored: &Stored,
    root: &Authority,
    request: &LeafRequest,
    now: OffsetDateTime,
) -> Option<String> {
    if ["tls.key", CA, "bundle.pem"].iter().any(|key| stored.value(key).is_none()) {
        return Some("it was incomplete".to_owned());
    }
    let Some(certificate) = stored.value("tls.crt").and_then(Certificate::from_pem) else {
        return Some("it was no certificate".to_owned());
    };
    if !certificate.is_signed_by(root.certificate()) {
        return Some("the root has changed".to_owned());
    }
    if !certificate.says(request) {
        return Some("its names have changed".to_owned());
    }
    let left = certificate.not_after() - now;
    // One that is short-lived by design is not renewed at every run, and one that ends with the
    // root cannot be made longer.
    let third = Duration::try_from(request.ttl / 3).unwrap_or(LEFT);
    let enough = LEFT.min(third).min((root.certificate().not_after() - now) / 2);
    (left < enough).then(|| format!("{} days were left", left.whole_days()))
}

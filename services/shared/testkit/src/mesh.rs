use std::{fs, net::Ipv4Addr, path::PathBuf};

use portolan_kernel::{IdGen as _, RandomIds, SystemClock};
use portolan_runtime::{Tls, TlsConfig};
use rcgen::{CertificateParams, DnType, SanType};

use crate::TestCa;

const TRUST_DOMAIN: &str = "portolan.test";
const NAMESPACE: &str = "shop";

/// The files of `[tls]` for a mesh of one test's own, in a directory that goes with it.
#[derive(Debug)]
pub struct TestMesh {
    directory: PathBuf,
    ca: TestCa,
}

impl TestMesh {
    /// A mesh with an authority that everybody trusts.
    #[expect(clippy::new_without_default, reason = "every one is another")]
    pub fn new() -> Self {
        let unique = RandomIds(SystemClock).next().simple().to_string();
        let directory = std::env::temp_dir().join(format!("portolan-mesh-{unique}"));
        fs::create_dir(&directory).expect("a directory for the mesh");
        let mesh = Self { directory, ca: TestCa::new() };
        mesh.write_roots(&mesh.ca.roots());
        mesh
    }

    /// Who signs the certificates.
    pub const fn ca(&self) -> &TestCa {
        &self.ca
    }

    /// The configuration of a component, whose identity is made if it has none yet. Everybody
    /// answers on `localhost` and 127.0.0.1.
    pub fn config(&self, component: &str) -> TlsConfig {
        let identity = self.identity_file(component);
        if !identity.exists() {
            self.renew(component);
        }
        TlsConfig {
            identity,
            roots: self.roots_file(),
            trust_domain: TRUST_DOMAIN.to_owned(),
            namespace: NAMESPACE.to_owned(),
            prefix: String::new(),
            poll_ms: 20,
        }
    }

    /// The component's place in the mesh.
    pub fn load(&self, component: &str) -> Tls {
        Tls::load(&self.config(component)).expect("a usable identity")
    }

    /// What the certificate of a component says, to be changed by those who need a bad one.
    pub fn params(&self, component: &str) -> CertificateParams {
        let mut params = TestCa::leaf(component);
        params.distinguished_name.push(DnType::CommonName, component);
        let id = format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{component}");
        params.subject_alt_names = vec![
            SanType::DnsName("localhost".try_into().expect("a name")),
            SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
            SanType::URI(id.try_into().expect("a URI")),
        ];
        params
    }

    /// Gives the component a new certificate and key.
    pub fn renew(&self, component: &str) {
        self.write_identity(component, &self.ca.issue(&self.params(component)));
    }

    /// Writes the file of a component's identity, by renaming, as an agent does.
    pub fn write_identity(&self, component: &str, pem: &str) {
        self.write(&self.identity_file(component), pem);
    }

    /// Writes the file of the roots.
    pub fn write_roots(&self, pem: &str) {
        self.write(&self.roots_file(), pem);
    }

    /// Where a component's identity is.
    pub fn identity_file(&self, component: &str) -> PathBuf {
        self.directory.join(format!("{component}.pem"))
    }

    /// Where the roots are.
    pub fn roots_file(&self) -> PathBuf {
        self.directory.join("roots.pem")
    }

    /// Another file beside them.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.join(name);
        self.write(&path, content);
        path
    }

    fn write(&self, path: &PathBuf, content: &str) {
        let draft = self.directory.join("draft");
        fs::write(&draft, content).expect("a file can be written");
        fs::rename(&draft, path).expect("a file can be renamed");
    }
}

impl Drop for TestMesh {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

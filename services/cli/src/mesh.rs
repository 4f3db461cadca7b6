//! Calls to the services: over mutual TLS where the shop has it, and in the clear where it has
//! not.

use portolan_runtime::{
    Context,
    grpc::{self, Client},
    tls::{Tls, TlsConfig},
};

/// What calls to services are made with. The files behind it may be replaced at any time: new
/// connections use what is in them then.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    ctx: Context,
}

impl Mesh {
    /// # Errors
    /// There is no usable certificate or root in the files.
    pub(crate) fn open(tls: Option<&TlsConfig>) -> anyhow::Result<Self> {
        let ctx = Context::new("cli", None);
        let Some(config) = tls else { return Ok(Self { ctx }) };
        let tls = Tls::load(config)?;
        tls.keep_current(&ctx.tasks);
        Ok(Self { ctx: ctx.with_tls(Some(tls)) })
    }

    /// A channel to the service `component` at `url`.
    ///
    /// # Errors
    /// It is not a URL, or an `https` one and we have no certificate.
    pub(crate) fn channel(&self, url: &str, component: &str) -> anyhow::Result<Client> {
        Ok(grpc::channel(&self.ctx, url, component)?)
    }
}

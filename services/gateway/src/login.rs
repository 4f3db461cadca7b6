use std::{sync::Arc, time::Duration};

use portolan_auth::{
    Directory, Issuer, KeyRing, UserRecord, Users, Verifier, create_key_file,
    warn_if_readable_by_others,
};
use portolan_runtime::{Context, files::Watched};
use tokio::sync::watch;

use crate::config::Config;

/// The built-in issuer and who can log in. Its keys and users change while it runs.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) issuer: Issuer,
    pub(crate) users: Users,
    pub(crate) ttl: Duration,
    keys: watch::Receiver<Arc<KeyRing>>,
}

impl Login {
    /// Opens the files and keeps what they say current.
    ///
    /// # Errors
    /// A file is missing, or of no use.
    pub(crate) fn open(config: &Config, ctx: &Context) -> anyhow::Result<Self> {
        let (auth, dev) = (&config.auth, &config.dev_issuer);
        if dev.create_key {
            create_key_file(&dev.key_file)?;
        }
        warn_if_readable_by_others(&dev.key_file);
        let keys = Watched::load("dev_issuer.key_file", &dev.key_file, KeyRing::parse)?;
        keys.keep_current(&ctx.tasks, config.poll());
        let keys = keys.subscribe();
        Ok(Self {
            issuer: Issuer::following(keys.clone(), &auth.issuer, &auth.audience),
            users: Users::following(directory(config, ctx)?),
            ttl: dev.token_ttl(),
            keys,
        })
    }

    /// Accepts what the issuer signs.
    pub(crate) fn verifier(&self, config: &Config, ctx: &Context) -> Verifier {
        let (issuer, audience) = (config.auth.issuer.clone(), config.auth.audience.clone());
        Verifier::following(self.keys.clone(), issuer, audience, Arc::clone(&ctx.clock))
    }
}

/// The users of the configuration and, if there is one, of the users file.
fn directory(config: &Config, ctx: &Context) -> anyhow::Result<watch::Receiver<Arc<Directory>>> {
    let own = config.dev_issuer.user_records();
    let Some(file) = &config.dev_issuer.users_file else {
        return Ok(watch::Sender::new(Arc::new(Directory::new(own)?)).subscribe());
    };
    let parse = move |json: &[u8]| {
        Directory::new(own.iter().cloned().chain(UserRecord::parse_list(json)?).collect())
    };
    let users = Watched::load("dev_issuer.users_file", file, parse)?;
    users.keep_current(&ctx.tasks, config.poll());
    Ok(users.subscribe())
}

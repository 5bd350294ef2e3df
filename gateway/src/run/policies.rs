//! The policies to begin with: those accepted last, or the file of the configuration.

use crate::{
    config::{Config, PortConfig},
    control::{ApplyError, PolicyStore, state_dir::StateDir},
};
use anyhow::Result;
use std::{fs, io};
use tracing::{error, info, warn};

pub(super) fn load_policies(config: &Config) -> Result<PolicyStore> {
    let own = [&config.tunnel.port, &config.external.port];
    let own = own.into_iter().flat_map(PortConfig::own_addresses).collect();
    let state = StateDir::new(&config.policy.state_dir);
    let store = PolicyStore::new(&config.name, config.policy_limits(), own, state);
    let file = &config.policy.file;
    let read = || match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", file.display()))),
    };
    let applied = store.load_at_start(read).map_err(|error| {
        if let ApplyError::Store(error) = error {
            return anyhow::Error::new(error);
        }
        let kept = config.policy.state_dir.display();
        let place = format!(
            "policies of {}, or the accepted set kept in {kept}, which comes first",
            file.display()
        );
        anyhow::Error::new(error).context(place)
    })?;
    if let Some(reason) = store.refused_state() {
        error!(
            "{reason}. What was accepted last is not known, so the gateway begins as if nothing was: \
             look at the sets beside it and apply the right one (egress-gateway policy apply -f)"
        );
    }
    for warning in &applied.warnings {
        warn!("{warning}");
    }
    if applied.generation == 0 {
        warn!(file = %file.display(), "no policies: everything is dropped until some are applied");
    } else {
        info!(generation = applied.generation, policies = applied.added.len(), "policies loaded");
    }
    Ok(store)
}

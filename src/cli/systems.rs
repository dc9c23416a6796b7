//! Puts the drivers of a configuration together: what moves workloads, and what sends traffic to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};

use crate::config::{self, AfterMove, Config, Driver, DriverClass, PgBouncer, ServiceProfile};
use crate::drivers::files::{FilesMover, FilesOptions, Root};
use crate::drivers::haproxy::{HaproxyOptions, HaproxyRouter};
use crate::drivers::postgres::{self, BouncerOptions, DatabasesMover, PostgresMover, PostgresOptions};
use crate::drivers::redis::{self, RedisMover, RedisOptions, RedisSlotMover};
use crate::drivers::service::{Control, Instances, Service, ServiceMover, ServiceOptions};
use crate::drivers::{Mover, Router};
use crate::fleet::ApplicationId;

/// Movers and routers by the class of the workloads.
#[derive(Clone, Default)]
pub struct Systems {
    /// What moves workloads of a class.
    pub movers: HashMap<String, Arc<dyn Mover>>,
    /// What sends traffic to workloads of a class.
    pub routers: BTreeMap<String, Arc<dyn Router>>,
    /// The routers by their names in the configuration.
    pub by_name: BTreeMap<String, Arc<HaproxyRouter>>,
}

/// The drivers of the configuration; connects nowhere yet.
///
/// # Errors
/// Where a secret cannot be read.
pub fn open(config: &Config) -> Result<Systems> {
    let mut systems = Systems::default();
    for (name, driver) in config.drivers.iter().filter(|(_, d)| d.class == DriverClass::Haproxy) {
        systems.by_name.insert(name.clone(), Arc::new(haproxy(driver)));
    }
    for (name, driver) in &config.drivers {
        let router = driver.router.as_ref().and_then(|r| systems.by_name.get(r)).cloned();
        let router = router.map(|r| r as Arc<dyn Router>);
        let mover: Arc<dyn Mover> = match driver.class {
            DriverClass::Redis if driver.slots.is_empty() => {
                Arc::new(RedisMover::new(redis(config, name, driver)?))
            }
            DriverClass::Redis => {
                let mover = RedisSlotMover::new(redis(config, name, driver)?, &driver.slots);
                Arc::new(mover.map_err(|why| anyhow!("drivers.{name}.slots: {why}"))?)
            }
            DriverClass::Postgres if driver.databases.is_empty() => {
                Arc::new(PostgresMover::new(postgres(config, name, driver)?))
            }
            DriverClass::Postgres => Arc::new(DatabasesMover::new(postgres(config, name, driver)?)),
            DriverClass::Files => Arc::new(FilesMover::new(files(config, name, driver))),
            DriverClass::Service => Arc::new(ServiceMover::new(service(name, driver), router.clone())),
            DriverClass::Haproxy => continue,
        };
        let class = mover.class().to_string();
        systems.movers.insert(class.clone(), mover);
        if let Some(router) = router {
            systems.routers.insert(class, router);
        }
    }
    Ok(systems)
}

fn application(name: &str, driver: &Driver) -> ApplicationId {
    ApplicationId::from(if driver.application.is_empty() { name } else { driver.application.as_str() })
}

fn password(name: &str, driver: &Driver) -> Result<Option<String>> {
    let revealed = driver.password.as_ref().map(|s| s.reveal().map(|r| r.expose().to_string())).transpose();
    revealed.with_context(|| format!("drivers.{name}.password"))
}

fn hosts(config: &Config) -> BTreeMap<String, String> {
    config.fleet.nodes.iter().map(|(address, host)| (address.clone(), host.to_string())).collect()
}

fn redis(config: &Config, name: &str, driver: &Driver) -> Result<RedisOptions> {
    Ok(RedisOptions {
        application: application(name, driver),
        username: (!driver.username.is_empty()).then(|| driver.username.clone()),
        password: password(name, driver)?,
        hosts: hosts(config),
        command_timeout: driver.timeout,
        key_by_key: driver.key_by_key,
        after_move: match config.migration.after {
            AfterMove::Standby => redis::AfterMove::KeepAsReplica,
            AfterMove::Decommission => redis::AfterMove::Forget,
        },
        ..RedisOptions::new(name, &driver.seeds)
    })
}

fn postgres(config: &Config, name: &str, driver: &Driver) -> Result<PostgresOptions> {
    // With whole databases it is where one logs in first, and that one is everywhere.
    let database = if driver.database.is_empty() { "postgres" } else { driver.database.as_str() };
    let known = PostgresOptions::new(name, driver.clusters.clone(), database);
    Ok(PostgresOptions {
        application: application(name, driver),
        databases: driver.databases.clone(),
        schemas: driver.schemas.clone(),
        tenant: driver.tenant.as_ref().map(|tenant| postgres::TenantOptions {
            column: tenant.column.clone(),
            schema: tenant.schema.clone(),
            values: tenant.values.clone(),
            shared: tenant.shared.clone(),
        }),
        username: if driver.username.is_empty() { known.username.clone() } else { driver.username.clone() },
        password: password(name, driver)?,
        tls_ca: driver.tls_ca.clone(),
        passfile: (!driver.passfile.is_empty()).then(|| driver.passfile.clone()),
        hosts: hosts(config),
        command_timeout: driver.timeout,
        bouncers: driver
            .pgbouncers
            .iter()
            .enumerate()
            .map(|(i, pool)| bouncer(driver, pool).with_context(|| format!("drivers.{name}.pgbouncers[{i}]")))
            .collect::<Result<_>>()?,
        after_move: match config.migration.after {
            AfterMove::Standby => postgres::AfterMove::KeepCopy,
            AfterMove::Decommission => postgres::AfterMove::DropCopy,
        },
        ..known
    })
}

fn bouncer(driver: &Driver, pool: &PgBouncer) -> Result<BouncerOptions> {
    let password = pool.password.as_ref().map(|s| s.reveal().map(|r| r.expose().to_string())).transpose();
    Ok(BouncerOptions {
        admin: pool.admin.clone(),
        username: if pool.username.is_empty() { "pgbouncer".into() } else { pool.username.clone() },
        password: password.context("password")?,
        tls_ca: pool.tls_ca.clone(),
        database: pool.database_of(driver).to_string(),
        schema: pool.schema_of(driver).context("schema: expected one")?.to_string(),
        file: pool.file.clone(),
    })
}

fn files(config: &Config, name: &str, driver: &Driver) -> FilesOptions {
    let root = |path: &std::path::PathBuf| {
        let host = config.fleet.nodes.get(&path.display().to_string());
        Root::new(path.clone(), host)
    };
    FilesOptions {
        application: application(name, driver),
        roots: driver.roots.iter().map(root).collect(),
        ..FilesOptions::new(name, driver.roots.clone())
    }
}

fn haproxy(driver: &Driver) -> HaproxyRouter {
    HaproxyRouter::new(HaproxyOptions {
        backends: driver.backends.clone(),
        servers: driver.servers.clone(),
        epochs: driver.epochs.clone(),
        timeout: driver.timeout,
        ..HaproxyOptions::new(driver.sockets.clone())
    })
}

fn service(name: &str, driver: &Driver) -> ServiceOptions {
    let profile = |profile: &ServiceProfile| Service {
        control: match profile.unit.is_empty() {
            false => Control::Unit(profile.unit.clone()),
            true => Control::Commands {
                start: profile.start.clone(),
                stop: profile.stop.clone(),
                status: profile.status.clone(),
            },
        },
        health: profile.health.clone(),
    };
    ServiceOptions {
        application: application(name, driver),
        via: driver.via.clone(),
        instances: match driver.instances {
            config::Instances::Many => Instances::Many,
            config::Instances::One => Instances::One,
        },
        stop_within: driver.stop_within,
        command_timeout: driver.timeout,
        ..ServiceOptions::new(
            name,
            driver.hosts.iter().cloned(),
            driver.services.iter().map(|(id, p)| (id.clone(), profile(p))),
        )
    }
}

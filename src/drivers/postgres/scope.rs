//! What a workload is: a whole database, a whole schema of one, or the rows of one tenant in the tables of a schema
//! that many tenants share.

use super::options::{PostgresOptions, TenantOptions};
use super::session::{ident, literal};
use crate::fleet::WorkloadId;

/// The longest value of a tenant's column that a workload is called by.
const LONGEST: usize = 100;

/// What a workload is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// All schemas of the database of that name.
    Database(String),
    /// All that is in the schema.
    Schema(String),
    /// One tenant's rows.
    Tenant(Tenant),
}

/// The rows whose column holds the value, in every table of the schema but the shared ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tenant {
    /// The schema of its tables.
    pub(super) schema: String,
    pub(super) column: String,
    pub(super) value: String,
    /// What the workloads of all tenants of these tables begin with.
    pub(super) kin: String,
    /// Tables that are no tenant's, and stay where they are.
    pub(super) shared: Vec<String>,
}

impl Scope {
    /// What the workload of that label is: the label is the database, the schema, or `schema.value`. `None` where
    /// no workload is called so.
    pub(super) fn of(options: &PostgresOptions, label: &str) -> Option<Self> {
        if !options.databases.is_empty() {
            return (label == options.database).then(|| Self::Database(label.to_string()));
        }
        let Some(tenant) = &options.tenant else {
            return (!label.is_empty()).then(|| Self::Schema(label.to_string()));
        };
        let value = label.strip_prefix(tenant.schema.as_str())?.strip_prefix('.')?;
        let wanted = tenant.values.is_empty() || tenant.values.iter().any(|v| v == value);
        (wanted && nameable(value)).then(|| {
            Self::Tenant(Tenant {
                schema: tenant.schema.clone(),
                column: tenant.column.clone(),
                value: value.to_string(),
                kin: kin(&options.name, tenant),
                shared: tenant.shared.clone(),
            })
        })
    }

    /// The tenant whose rows it is.
    pub(super) fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            Self::Database(_) | Self::Schema(_) => None,
        }
    }

    /// The schema as marks name it; empty = all of the database.
    pub(super) fn marked(&self) -> &str {
        match self {
            Self::Database(_) => "",
            Self::Schema(schema) => schema,
            Self::Tenant(tenant) => &tenant.schema,
        }
    }

    /// Whether a schema is in it, as a condition on the `pg_namespace` row of that alias.
    pub(super) fn covers(&self, row: &str) -> String {
        match self {
            Self::Database(_) => {
                format!(
                    "({row}.nspname !~ '^pg_' AND {row}.nspname NOT IN ('information_schema', 'foreshift'))"
                )
            }
            Self::Schema(schema) | Self::Tenant(Tenant { schema, .. }) => {
                format!("{row}.nspname = {}", literal(schema))
            }
        }
    }

    /// What workloads are called by behind the driver's name.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Tenant(tenant) => format!("{}.{}", tenant.schema, tenant.value),
            Self::Database(name) | Self::Schema(name) => name.clone(),
        }
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Tenant(t) => format!("{} where {} = {}", t.schema, t.column, t.value),
            Self::Schema(name) => name.clone(),
            Self::Database(name) => format!("the database {name}"),
        }
    }

    /// Which of a schema's tables are no part of it, as a condition on `pg_class c`.
    pub(super) fn tables(&self) -> String {
        let shared = self.tenant().map(|t| t.shared.as_slice()).unwrap_or_default();
        if shared.is_empty() {
            return "true".into();
        }
        let names: Vec<String> = shared.iter().map(|name| literal(name)).collect();
        format!("c.relname NOT IN ({})", names.join(", "))
    }
}

impl Tenant {
    /// Whether a row is the tenant's; `row` is its alias, `NEW` or `OLD`.
    pub(super) fn condition(&self, row: &str) -> String {
        format!("{row}.{} = {}", ident(&self.column), literal(&self.value))
    }

    /// The same without an alias, for a publication.
    pub(super) fn filter(&self) -> String {
        format!("{} = {}", ident(&self.column), literal(&self.value))
    }

    /// The lock under which the guards and the structure of these tables are put up and taken away.
    pub(super) fn lock(&self) -> i64 {
        hash(&format!("kin\0{}", self.kin))
    }

    /// What ends the names of all that guards these tables.
    pub(super) fn suffix(&self) -> String {
        format!("{:016x}", self.lock())
    }
}

/// What the workloads of all tenants begin with.
pub(super) fn kin(name: &str, tenant: &TenantOptions) -> String {
    format!("{name}-{}.", tenant.schema)
}

/// Whether a workload can be called by a value: it stands in commands, addresses and SQL.
pub(super) fn nameable(value: &str) -> bool {
    (1..=LONGEST).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:@+".contains(&b))
}

/// The lock that is called so.
pub(super) fn hash(name: &str) -> i64 {
    let mut lock = [0; 8];
    lock.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..8]);
    i64::from_be_bytes(lock)
}

/// The lock that the writers of a workload share.
pub(super) fn lock_of(workload: &WorkloadId) -> i64 {
    hash(workload.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_a_schema_or_the_rows_of_a_tenant_and_never_guessed() {
        let mut options = PostgresOptions::new("shop", ["a:5432"], "shop");
        let whole = Scope::of(&options, "orders").unwrap();
        assert_eq!((&whole, whole.label()), (&Scope::Schema("orders".into()), "orders".into()));
        assert_eq!(Scope::of(&options, ""), None);
        options.tenant = Some(TenantOptions {
            column: "tenant_id".into(),
            schema: "shop".into(),
            values: Vec::new(),
            shared: Vec::new(),
        });
        let seven = Scope::of(&options, "shop.7").unwrap();
        let tenant = seven.tenant().cloned().unwrap();
        assert_eq!((seven.label(), tenant.condition("r")), ("shop.7".into(), "r.\"tenant_id\" = '7'".into()));
        for no in ["shop", "shop.", "shop.7'", "shop.a b", "shop.a/b", "orders.7", "shopx.7"] {
            assert_eq!(Scope::of(&options, no), None, "{no}");
        }
        options.tenant.as_mut().unwrap().values = vec!["8".into()];
        assert_eq!(Scope::of(&options, "shop.7"), None);
    }

    #[test]
    fn a_database_is_all_of_its_schemas_but_the_servers_and_ours() {
        let mut options = PostgresOptions::new("shop", ["a:5432"], "crm");
        options.databases = vec!["crm".into()];
        let scope = Scope::of(&options, "crm").unwrap();
        assert_eq!((scope.label(), scope.marked()), ("crm".into(), ""));
        assert!(scope.covers("n").contains("'foreshift'"));
        assert_eq!(Scope::of(&options, "public"), None);
    }
}

//! Who may do what: bearer tokens with roles. Without tokens only this machine is served, and who
//! can reach its loopback address is an operator.

use std::net::SocketAddr;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::protocol::{Actor, Refusal, Role};

/// A token and what its bearer may do.
#[derive(Clone)]
pub struct Token {
    /// The secret text; never shown.
    pub secret: String,
    /// The bearer's name in the audit log.
    pub name: String,
    /// What the bearer may do.
    pub role: Role,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({}, {:?}, ***)", self.name, self.role)
    }
}

/// The rule of access.
#[derive(Clone, Debug, Default)]
pub struct Access {
    tokens: Vec<Token>,
}

impl Access {
    /// Access by these tokens; none = loopback only.
    pub fn new(tokens: Vec<Token>) -> Self {
        Self { tokens }
    }

    /// Why `address` must not be listened on with these tokens, if so.
    pub fn refuses_to_listen(&self, address: SocketAddr) -> Option<String> {
        (self.tokens.is_empty() && !address.ip().is_loopback()).then(|| {
            format!(
                "{address} can be reached from other machines and no token is configured: listen on 127.0.0.1, \
                 or add tokens to [engine] in the configuration"
            )
        })
    }

    /// Who asks. `claimed` is the name a console gives for its person; a token's own name stands
    /// before it.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] for a missing or unknown token.
    pub fn actor(&self, headers: &HeaderMap, claimed: &str) -> Result<Actor, Refusal> {
        let claimed: String = claimed.chars().filter(|c| !c.is_control()).take(64).collect();
        if self.tokens.is_empty() {
            let name = if claimed.is_empty() { "api".to_string() } else { claimed };
            return Ok(Actor { name, role: Role::Admin });
        }
        let given = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .unwrap_or_default();
        let token = self
            .tokens
            .iter()
            .find(|t| equal_in_constant_time(t.secret.as_bytes(), given.as_bytes()))
            .ok_or(Refusal::NotAllowed { needed: Role::Viewer })?;
        let name = if claimed.is_empty() { token.name.clone() } else { format!("{}/{claimed}", token.name) };
        Ok(Actor { name, role: token.role })
    }
}

/// Compares hashes, so that the time taken tells nothing about the secret.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    blake3::hash(a) == blake3::hash(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tokens_only_this_machine_is_served() {
        let open = Access::default();
        assert!(open.refuses_to_listen("127.0.0.1:7117".parse().unwrap()).is_none());
        assert!(open.refuses_to_listen("0.0.0.0:7117".parse().unwrap()).is_some());
    }

    #[test]
    fn a_wrong_token_is_refused_and_a_right_one_names_its_bearer() {
        let token = Token { secret: "s3".into(), name: "eu".into(), role: Role::Operator };
        let access = Access::new(vec![token]);
        let mut headers = HeaderMap::new();
        assert!(access.actor(&headers, "me").is_err());
        headers.insert(AUTHORIZATION, "Bearer s4".parse().unwrap());
        assert!(access.actor(&headers, "me").is_err());
        headers.insert(AUTHORIZATION, "Bearer s3".parse().unwrap());
        let actor = access.actor(&headers, "me").unwrap();
        assert_eq!((actor.name.as_str(), actor.role), ("eu/me", Role::Operator));
    }
}

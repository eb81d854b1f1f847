//! What is kept in etcd, and the one transaction that changes it.
//!
//! Two kinds of key: `/claims/cluster-ip/10.96.0.7` says who has an address, `/services/default/a-1` holds the Service.

use std::collections::BTreeMap;

use anyhow::Context;
use etcd_client::{Client, Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse};
use svcplane::assign::{Assignment, Claim};
use svcplane::k8s;

pub(crate) const CLAIMS: &str = "/claims/";
pub(crate) const SERVICES: &str = "/services/";

pub(crate) struct Store(Client);

/// What became of an assignment.
pub(crate) enum Written {
    /// It is in the store, all of it.
    Yes,
    /// None of it is, as others have these claims.
    Refused(Vec<(Claim, Token)>),
}

/// What a claim's key holds: the Service, and what tells one attempt to get it from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) service: String,
    pub(crate) attempt: String,
}

impl Token {
    fn text(&self) -> String {
        format!("{} {}", self.service, self.attempt)
    }

    fn read(text: &str) -> anyhow::Result<Self> {
        let (service, attempt) = text.split_once(' ').context("a claim of nobody")?;
        Ok(Self { service: service.to_owned(), attempt: attempt.to_owned() })
    }
}

impl Store {
    pub(crate) async fn connect(endpoint: &str) -> anyhow::Result<Self> {
        Ok(Self(Client::connect([endpoint], None).await?))
    }

    /// Every key below a prefix, without the prefix, and what it holds.
    pub(crate) async fn read(&mut self, prefix: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let answer = self.0.get(prefix, Some(GetOptions::new().with_prefix())).await?;
        let pair = |kv: &etcd_client::KeyValue| {
            Ok((kv.key_str()?.replacen(prefix, "", 1), kv.value_str()?.to_owned()))
        };
        answer.kvs().iter().map(pair).collect()
    }

    pub(crate) async fn claims(&mut self) -> anyhow::Result<BTreeMap<String, Token>> {
        let claims = self.read(CLAIMS).await?;
        claims.into_iter().map(|(claim, text)| Ok((claim, Token::read(&text)?))).collect()
    }

    /// The compare-and-swap: all keys of the assignment, if none of them is there.
    ///
    /// If etcd cannot say whether it was done, it may have been: writing again with the same token finds that out.
    pub(crate) async fn write(
        &mut self,
        assignment: &Assignment,
        token: &Token,
    ) -> anyhow::Result<Written> {
        let absent = |key: &str| Compare::create_revision(key, CompareOp::Equal, 0);
        let keys: Vec<String> =
            assignment.takes.iter().map(|claim| format!("{CLAIMS}{claim}")).collect();
        let service = format!("{SERVICES}{}", assignment.service.name);
        let object = serde_json::to_string(&k8s::Service::from(&assignment.service))?;
        let compares: Vec<Compare> =
            keys.iter().map(|key| absent(key)).chain([absent(&service)]).collect();
        let puts = keys.iter().map(|key| TxnOp::put(key.as_str(), token.text(), None));
        let puts: Vec<TxnOp> = puts.chain([TxnOp::put(service, object, None)]).collect();
        let gets: Vec<TxnOp> = keys.iter().map(|key| TxnOp::get(key.as_str(), None)).collect();
        let answer = self.0.txn(Txn::new().when(compares).and_then(puts).or_else(gets)).await?;
        if answer.succeeded() {
            return Ok(Written::Yes);
        }
        let mut holders = Vec::new();
        for (claim, response) in assignment.takes.iter().zip(answer.op_responses()) {
            let TxnOpResponse::Get(found) = response else { continue };
            if let Some(kv) = found.kvs().first() {
                holders.push((*claim, Token::read(kv.value_str()?)?));
            }
        }
        let ours = !holders.is_empty() && holders.iter().all(|(_, holder)| holder == token);
        Ok(if ours { Written::Yes } else { Written::Refused(holders) })
    }
}

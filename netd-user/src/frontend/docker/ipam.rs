//! `IpamDriver`: pools and addresses on their own, for networks of any driver.

use super::options::address;
use super::reply::{AddressGranted, Empty, PoolGranted};
use super::request::{PoolRef, ReleaseAddress, RequestAddress, RequestPool};
use super::{Answer, Plugin, PluginError, reply};
use crate::model::engine::{AddressRequest, AddressRole, PoolRequest};
use crate::model::{EngineCommand, Outcome, PoolId, Refusal};

const ADDRESS_TYPE: &str = "RequestAddressType";

impl Plugin {
    pub(super) async fn request_pool(&self, asked: RequestPool) -> Answer {
        if let Some(key) = asked.options.keys().find(|key| key.starts_with("netd.")) {
            return Err(Refusal::invalid(format_args!("unknown IPAM option {key}")).into());
        }
        let named = |text: String| Some(text).filter(|text| !text.is_empty());
        let request = PoolRequest {
            space: named(asked.address_space).unwrap_or_else(|| super::options::LOCAL_SPACE.into()),
            subnet: named(asked.pool),
            range: named(asked.sub_pool),
            v6: asked.v6,
        };
        let outcome = self.make(EngineCommand::RequestPool(request)).await?;
        let Outcome::Pool(pool) = outcome else { return Err(mismatch()) };
        let granted = pool.subnet.to_string();
        Ok(reply(&PoolGranted { pool_id: pool.to_string(), pool: granted, extra: Empty {} }))
    }

    pub(super) async fn release_pool(&self, asked: &PoolRef) -> Answer {
        if let Ok(pool) = asked.pool.parse() {
            self.unmake(EngineCommand::ReleasePool { pool }).await?;
        }
        Ok(reply(&Empty::default()))
    }

    pub(super) async fn request_address(&self, asked: &RequestAddress) -> Answer {
        let pool: PoolId = asked.pool.parse().map_err(Refusal::not_found)?;
        let options = asked.options.as_ref();
        let for_endpoint = options.is_some_and(|options| !options.contains_key(ADDRESS_TYPE));
        let role = if for_endpoint { AddressRole::Endpoint } else { AddressRole::Fixed };
        let addr = address("address", &asked.address)?;
        let request = AddressRequest { pool, addr, role };
        let outcome = self.make(EngineCommand::RequestAddress(request)).await?;
        let Outcome::Address(granted) = outcome else { return Err(mismatch()) };
        Ok(reply(&AddressGranted { address: granted.to_string(), extra: Empty {} }))
    }

    pub(super) async fn release_address(&self, asked: &ReleaseAddress) -> Answer {
        if let (Ok(pool), Ok(Some(addr))) = (asked.pool.parse(), address("address", &asked.address))
        {
            self.unmake(EngineCommand::ReleaseAddress { pool, addr }).await?;
        }
        Ok(reply(&Empty::default()))
    }
}

fn mismatch() -> PluginError {
    unreachable!("a request for a pool or an address that is granted comes to one")
}

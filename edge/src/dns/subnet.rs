//! Where the viewer behind a question is: the client subnet its resolver tells (RFC 7871), else the resolver itself.

use std::net::IpAddr;

use hickory_proto::{
    op::Edns,
    rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption},
};

use crate::{
    net::width,
    policy::places::{PlaceTable, ViewerPlace},
};

/// The viewer of a question.
#[derive(Debug, Clone)]
pub(super) struct Viewer {
    /// Who asks for it.
    pub(super) resolver: IpAddr,
    /// The subnet told, or the resolver.
    pub(super) address: IpAddr,
    /// Where it is.
    pub(super) place: ViewerPlace,
    /// The subnet told, and the prefix for which our answer holds.
    told: Option<(ClientSubnet, u8)>,
}

impl Viewer {
    /// Reads the option, or takes the resolver's address.
    pub(super) fn of(edns: Option<&Edns>, resolver: IpAddr, places: &PlaceTable) -> Self {
        let resolver = resolver.to_canonical();
        let Some(EdnsOption::Subnet(subnet)) = edns.and_then(|edns| edns.option(EdnsCode::Subnet)) else {
            return Self { resolver, address: resolver, place: places.locate(resolver).place, told: None };
        };
        if subnet.source_prefix() == 0 || subnet.source_prefix() > width(subnet.addr()) {
            let place = places.locate(resolver).place;
            return Self { resolver, address: resolver, place, told: Some((*subnet, 0)) };
        }
        let located = places.locate(subnet.addr());
        Self { resolver, address: subnet.addr(), place: located.place, told: Some((*subnet, located.prefix)) }
    }

    /// Returns the option of the answer: the subnet as told, and the scope used; zero when the answer is everybody's.
    //= https://www.rfc-editor.org/rfc/rfc7871#section-7.2.1
    //# The FAMILY, SOURCE PREFIX-LENGTH, and ADDRESS in the response MUST match those in the query.
    pub(super) fn echo(&self, depends_on_viewer: bool) -> Option<EdnsOption> {
        let (subnet, prefix) = self.told.as_ref()?;
        let scope = if depends_on_viewer { *prefix } else { 0 };
        Some(EdnsOption::Subnet(ClientSubnet::new(subnet.addr(), subnet.source_prefix(), scope)))
    }
}

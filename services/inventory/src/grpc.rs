//! The gRPC service: converts, calls the use case, converts back.

use std::sync::Arc;

use portolan_kernel::{IdGen, Money};
use portolan_proto::{common::v1 as common, inventory::v1 as pb};
use portolan_runtime::grpc::status;
use sqlx::PgPool;
use tonic::{Request, Response, Status};

use crate::{
    app::{self, Error, PageRequest},
    domain::{Product, parse_import},
};

/// Every method, by the name that callers are allowed it by.
pub(crate) const METHODS: [&str; 4] = [
    "portolan.inventory.v1.InventoryService/Quote",
    "portolan.inventory.v1.InventoryService/ListProducts",
    "portolan.inventory.v1.InventoryService/GetProduct",
    "portolan.inventory.v1.InventoryService/ImportProducts",
];

/// The service's RPCs.
#[derive(Clone, Debug)]
pub struct Api {
    pool: PgPool,
    ids: Arc<dyn IdGen>,
}

impl Api {
    /// RPCs over a database.
    pub fn new(pool: PgPool, ids: Arc<dyn IdGen>) -> Self {
        Self { pool, ids }
    }
}

#[tonic::async_trait]
impl pb::inventory_service_server::InventoryService for Api {
    async fn quote(
        &self,
        request: Request<pb::QuoteRequest>,
    ) -> Result<Response<pb::QuoteResponse>, Status> {
        let quote = app::quote(&self.pool, request.into_inner().skus).await.map_err(fail)?;
        let priced = |(sku, price)| pb::QuotedPrice { sku, price: Some(to_money(price)) };
        Ok(Response::new(pb::QuoteResponse {
            prices: quote.prices.into_iter().map(priced).collect(),
            unknown_skus: quote.unknown,
        }))
    }

    async fn list_products(
        &self,
        request: Request<pb::ListProductsRequest>,
    ) -> Result<Response<pb::ListProductsResponse>, Status> {
        let pb::ListProductsRequest { cursor, limit, query } = request.into_inner();
        let request = PageRequest { cursor, limit, query };
        let page = app::list_products(&self.pool, &request).await.map_err(fail)?;
        Ok(Response::new(pb::ListProductsResponse {
            products: page.products.into_iter().map(to_product).collect(),
            next_cursor: page.next_cursor,
        }))
    }

    async fn get_product(
        &self,
        request: Request<pb::GetProductRequest>,
    ) -> Result<Response<pb::GetProductResponse>, Status> {
        let product =
            app::get_product(&self.pool, &request.into_inner().sku).await.map_err(fail)?;
        let product = product.ok_or(Error::NotFound).map_err(fail)?;
        Ok(Response::new(pb::GetProductResponse { product: Some(to_product(product)) }))
    }

    async fn import_products(
        &self,
        request: Request<pb::ImportProductsRequest>,
    ) -> Result<Response<pb::ImportProductsResponse>, Status> {
        let products = request.into_inner().products.into_iter().map(|product| {
            let price = product.price.unwrap_or_default();
            (product.sku, product.name, price.minor_units, price.currency, product.quantity)
        });
        let products = parse_import(products).map_err(|bad| fail(Error::Invalid(bad)))?;
        let imported = app::import_products(&self.pool, self.ids.as_ref(), &products).await;
        let imported = imported.map_err(fail)?;
        Ok(Response::new(pb::ImportProductsResponse {
            created: u32::try_from(imported.created).unwrap_or(u32::MAX),
            restocked: u32::try_from(imported.restocked).unwrap_or(u32::MAX),
        }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn fail(error: Error) -> Status {
    status(&error)
}

fn to_money(money: Money) -> common::Money {
    common::Money { minor_units: money.minor_units, currency: money.currency.into() }
}

fn to_product(product: Product) -> pb::Product {
    pb::Product {
        sku: product.sku,
        name: product.name,
        price: Some(to_money(product.price)),
        available: product.available,
    }
}

#[cfg(test)]
mod method_names {
    use portolan_proto::inventory::v1::inventory_service_server::SERVICE_NAME;

    #[test]
    fn every_method_of_the_contract_is_listed() {
        let contract = include_str!("../../../proto/portolan/inventory/v1/inventory.proto");
        let named = contract.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        let named = named.filter_map(|rest| rest.split_once('('));
        let named: Vec<String> = named.map(|(name, _)| format!("{SERVICE_NAME}/{name}")).collect();
        assert_eq!(named, super::METHODS);
    }
}

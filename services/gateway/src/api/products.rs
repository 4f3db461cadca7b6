use axum::extract::State;
use http::Uri;
use portolan_proto::inventory::v1::{
    GetProductRequest, ListProductsRequest, Product as ProtoProduct,
};
use portolan_runtime::grpc;
use serde::Serialize;
use utoipa::ToSchema;

use super::money::{Money, required};
use crate::{
    app::App,
    extract::{Params, SkuPath, Visitor},
    openapi::{NotFoundProblem, QueryProblem},
    problem::Problem,
};

/// A product of the catalogue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Product {
    /// The stock keeping unit.
    #[schema(example = "85123A")]
    sku: String,
    /// The name.
    #[schema(example = "CREAM HANGING HEART T-LIGHT HOLDER")]
    name: String,
    /// The price of one.
    price: Money,
    /// How many can be ordered now.
    #[schema(minimum = 0)]
    available: i64,
}

/// A page of products.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductPage {
    /// The products, by SKU.
    products: Vec<Product>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl TryFrom<ProtoProduct> for Product {
    type Error = Problem;

    fn try_from(product: ProtoProduct) -> Result<Self, Problem> {
        Ok(Self {
            sku: product.sku,
            name: product.name,
            price: required(product.price, "product.price")?.into(),
            available: product.available,
        })
    }
}

/// List products
#[utoipa::path(
    get, path = "/v1/products", tag = "products", operation_id = "listProducts",
    params(
        ("cursor" = Option<String>, Query, max_length = 512, pattern = "^[!-~]*$",
            description = "Where the previous page ended: its `next_cursor`"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many \
            products at most; 20 if not given"),
        ("q" = Option<String>, Query, max_length = 100,
            pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$", description = "Only products whose name \
            or SKU contains this, whatever the case"),
    ),
    responses((status = 200, description = "A page of products", body = ProductPage),
        QueryProblem),
    security(()),
)]
pub(crate) async fn list_products(
    State(app): State<App>,
    _visitor: Visitor,
    uri: Uri,
) -> Result<axum::Json<ProductPage>, Problem> {
    let params = Params::of(&uri, &["cursor", "limit", "q"])?;
    let (cursor, limit, query) = (params.cursor()?, params.limit()?, params.search()?);
    let request = ListProductsRequest { cursor, limit, query };
    let request = grpc::deadline(request, app.limits.call_timeout());
    let page = app.inventory.clone().list_products(request).await?.into_inner();
    let products = page.products.into_iter().map(Product::try_from).collect::<Result<_, _>>()?;
    let next_cursor = Some(page.next_cursor).filter(|cursor| !cursor.is_empty());
    Ok(axum::Json(ProductPage { products, next_cursor }))
}

/// Get a product
#[utoipa::path(
    get, path = "/v1/products/{sku}", tag = "products", operation_id = "getProduct",
    params(("sku" = String, Path, description = "The stock keeping unit", example = "85123A")),
    responses((status = 200, description = "The product", body = Product), NotFoundProblem),
    security(()),
)]
pub(crate) async fn get_product(
    State(app): State<App>,
    _visitor: Visitor,
    SkuPath(sku): SkuPath,
) -> Result<axum::Json<Product>, Problem> {
    let request = grpc::deadline(GetProductRequest { sku }, app.limits.call_timeout());
    let found = app.inventory.clone().get_product(request).await?.into_inner();
    required(found.product, "product")?.try_into().map(axum::Json)
}

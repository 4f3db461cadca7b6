#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use portolan_proto::{
    common::v1::Money,
    inventory::v1::{GetProductRequest, ImportProductsRequest, ListProductsRequest, QuoteRequest},
};
use portolan_runtime::grpc::Remote;
use tonic::Code;

use crate::support::{Replica, Shop, new_order, product};

async fn list(
    replica: &mut Replica,
    cursor: &str,
    limit: u32,
    query: &str,
) -> (Vec<String>, String) {
    let request = ListProductsRequest { cursor: cursor.to_owned(), limit, query: query.to_owned() };
    let page = replica.client.list_products(request).await.unwrap().into_inner();
    (page.products.into_iter().map(|product| product.sku).collect(), page.next_cursor)
}

#[tokio::test]
async fn the_catalogue_is_listed_by_sku_page_by_page() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    inventory.import(&[("b", 1), ("10", 1), ("B", 1), ("é", 1), ("a", 0)]).await;

    let (first, cursor) = list(&mut inventory, "", 2, "").await;
    assert_eq!(first, ["10", "B"]);
    let (second, cursor) = list(&mut inventory, &cursor, 2, "").await;
    assert_eq!(second, ["a", "b"]);
    let (third, cursor) = list(&mut inventory, &cursor, 2, "").await;
    assert_eq!((third, cursor.as_str()), (vec!["é".to_owned()], ""));
    // A page that ends with the last product is the last page.
    assert_eq!(list(&mut inventory, "", 5, "").await.1, "");
    inventory.stop().await;
}

#[tokio::test]
async fn a_query_finds_names_and_skus_whatever_the_case() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    let mut products = vec![product("85123A", 1), product("22197", 1), product("1_x", 1)];
    products[0].name = "WHITE HANGING HEART".to_owned();
    products[1].name = "POPCORN HOLDER 50%".to_owned();
    products[2].name = r"back\slash".to_owned();
    let request = ImportProductsRequest { products };
    inventory.client.import_products(request).await.unwrap();

    for (query, found) in [
        ("heart", vec!["85123A"]),
        ("123a", vec!["85123A"]),
        ("%", vec!["22197"]),
        ("_", vec!["1_x"]),
        (r"K\s", vec!["1_x"]),
        ("nothing", vec![]),
    ] {
        assert_eq!(list(&mut inventory, "", 100, query).await.0, found, "{query}");
    }
    inventory.stop().await;
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused_with_the_field_at_fault() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    for (cursor, limit, query, field) in [
        ("", 0, "", "limit"),
        ("", 101, "", "limit"),
        ("***", 1, "", "cursor"),
        ("", 1, "a\0", "query"),
        ("", 1, &"x".repeat(201), "query"),
    ] {
        let request =
            ListProductsRequest { cursor: cursor.to_owned(), limit, query: query.to_owned() };
        let status = inventory.client.list_products(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        let remote = Remote::from(status);
        assert_eq!(remote.reason, "invalid_argument");
        assert_eq!(remote.violations[0].field, field);
    }
    inventory.stop().await;
}

#[tokio::test]
async fn a_quote_names_known_prices_and_unknown_skus() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    inventory.import(&[("a", 1), ("b", 1)]).await;

    let skus = ["z", "b", "not a sku", "a", "b", "nul\0"].map(str::to_owned).to_vec();
    let quote = inventory.client.quote(QuoteRequest { skus }).await.unwrap().into_inner();
    let prices: Vec<_> = quote
        .prices
        .into_iter()
        .map(|quoted| (quoted.sku, quoted.price.unwrap().minor_units))
        .collect();
    assert_eq!(prices, [("b".to_owned(), 85), ("a".to_owned(), 85)]);
    assert_eq!(quote.unknown_skus, ["z", "not a sku", "nul\0"]);

    let skus = vec!["a".to_owned(); 1_001];
    let status = inventory.client.quote(QuoteRequest { skus }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    inventory.stop().await;
}

#[tokio::test]
async fn a_product_shows_what_is_available_now() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    inventory.import(&[("a", 5)]).await;
    let order = new_order();
    shop.place(order, &[("a", 2)]).await;
    shop.until_state(order, "RESERVED").await;

    let request = GetProductRequest { sku: "a".to_owned() };
    let found = inventory.client.get_product(request).await.unwrap().into_inner();
    let product = found.product.unwrap();
    assert_eq!((product.sku.as_str(), product.available), ("a", 3));
    assert_eq!(product.price, Some(Money { minor_units: 85, currency: "GBP".to_owned() }));
    for missing in ["b", "", "nul\0", "A"] {
        let request = GetProductRequest { sku: missing.to_owned() };
        let status = inventory.client.get_product(request).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{missing:?}");
        assert_eq!(Remote::from(status).reason, "not_found");
    }
    inventory.stop().await;
}

#[tokio::test]
async fn importing_twice_changes_nothing_and_raises_what_was_sold() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    let first = inventory.import(&[("a", 5), ("b", 0)]).await;
    assert_eq!((first.created, first.restocked), (2, 0));
    let again = inventory.import(&[("b", 0), ("a", 5)]).await;
    assert_eq!((again.created, again.restocked), (0, 0));

    let order = new_order();
    shop.place(order, &[("a", 4)]).await;
    shop.until_state(order, "RESERVED").await;
    let third = inventory.import(&[("a", 5), ("b", 0), ("c", 1)]).await;
    assert_eq!((third.created, third.restocked), (1, 1));
    assert_eq!(shop.stock("a").await, (5, 4));
    // Less than there is takes nothing away; a new price is a new price.
    let mut dearer = product("a", 1);
    dearer.price = Some(Money { minor_units: 99, currency: "GBP".to_owned() });
    let request = ImportProductsRequest { products: vec![dearer] };
    let last = inventory.client.import_products(request).await.unwrap().into_inner();
    assert_eq!((last.created, last.restocked), (0, 0));
    assert_eq!(shop.stock("a").await, (5, 4));
    let quote = QuoteRequest { skus: vec!["a".to_owned()] };
    let quote = inventory.client.quote(quote).await.unwrap().into_inner();
    assert_eq!(quote.prices[0].price.as_ref().unwrap().minor_units, 99);
    shop.audit().await;
    inventory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_at_the_same_time_do_not_add_up() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    let mut clients = [(); 4].map(|()| inventory.client.clone());
    let imports = clients.iter_mut().enumerate().map(|(n, client)| {
        let mut products: Vec<_> = (0..50).map(|sku| product(&format!("{sku:03}"), 10)).collect();
        products.rotate_left(n * 10);
        client.import_products(ImportProductsRequest { products })
    });
    let mut created = 0;
    for done in futures::future::join_all(imports).await {
        created += done.unwrap().into_inner().created;
    }
    assert_eq!(created, 50);
    assert_eq!(shop.stock("000").await, (10, 0));
    assert_eq!(inventory.import(&[("000", 10)]).await.restocked, 0);
    shop.audit().await;
    inventory.stop().await;
}

#[tokio::test]
async fn an_unacceptable_import_changes_nothing_and_names_every_field() {
    let shop = Shop::open().await;
    let mut inventory = shop.replica().await;
    let mut bad = product("b c", -1);
    bad.name = String::new();
    bad.price = None;
    let request = ImportProductsRequest { products: vec![product("a", 1), bad] };
    let status = inventory.client.import_products(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let fields: Vec<String> =
        Remote::from(status).violations.into_iter().map(|violation| violation.field).collect();
    let expected = ["sku", "name", "price.minor_units", "price.currency", "quantity"];
    assert_eq!(fields, expected.map(|field| format!("products[1].{field}")));
    assert_eq!(list(&mut inventory, "", 100, "").await.0, [""; 0]);

    let products = (0..1_001).map(|n| product(&n.to_string(), 1)).collect();
    let request = ImportProductsRequest { products };
    let status = inventory.client.import_products(request).await.unwrap_err();
    assert_eq!(Remote::from(status).violations[0].field, "products");
    inventory.stop().await;
}

use portolan_testkit::eventually;

use crate::support::{PATIENCE, Shop, cancelled, confirmed, new_id, new_order};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_never_sell_a_hot_sku_twice() {
    const STOCK: usize = 40;
    const ORDERS: usize = 150;
    let shop = Shop::open().await;
    let mut one = shop.replica().await;
    let two = shop.replica().await;
    one.import(&[("hot", 40), ("cold", 1_000), ("warm", 1_000)]).await;

    let orders: Vec<_> = (0..ORDERS).map(|_| new_order()).collect();
    let lines = [("warm", 1), ("hot", 1), ("cold", 1)];
    // Two orders lock the same rows, named in different orders.
    let placing = orders.iter().enumerate().map(|(n, order)| {
        let mut lines = lines;
        lines.rotate_left(n % 3);
        let shop = &shop;
        async move { shop.place(*order, &lines).await }
    });
    futures::future::join_all(placing).await;
    let decided = async |state: &str| -> usize {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM reservation WHERE state = $1")
            .bind(state)
            .fetch_one(shop.pool())
            .await
            .unwrap();
        count.try_into().unwrap()
    };
    eventually(PATIENCE, "every order is decided", async || {
        (decided("RESERVED").await + decided("REJECTED").await == ORDERS).then_some(())
    })
    .await;
    assert_eq!(decided("RESERVED").await, STOCK);
    assert_eq!(shop.stock("hot").await, (0, 40));
    assert_eq!(shop.stock("warm").await, (960, 40));

    // Half of the winners complete and half are cancelled, at the same time.
    for (n, order) in orders.iter().enumerate() {
        if shop.state(*order).await.as_deref() != Some("RESERVED") {
            continue;
        }
        if n % 2 == 0 {
            shop.publish(new_id(), *order, 2, &confirmed(*order)).await;
        } else {
            shop.publish(new_id(), *order, 2, &cancelled(*order)).await;
        }
    }
    eventually(PATIENCE, "nothing is reserved any more", async || {
        (decided("RESERVED").await == 0).then_some(())
    })
    .await;
    let (available, reserved) = shop.stock("hot").await;
    let sold = i64::try_from(decided("COMMITTED").await).unwrap();
    assert_eq!((available + sold, reserved), (40, 0));
    shop.until_relayed().await;
    shop.audit().await;
    one.stop().await;
    two.stop().await;
}

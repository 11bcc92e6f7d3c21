//! The dashboard as a part of an actix-web application.
//!
//! `cargo run -p longshore-dashboard --features actix-web --example actix_web -- serve` prints the address,
//! and goes on until it is interrupted.

mod client;

use std::error::Error;

use actix_web::{HttpServer, rt, web};
use longshore::App;
use longshore_dashboard::Dashboard;

fn main() -> Result<(), Box<dyn Error>> {
    let app = App::deployed("shop");
    let price = app.infallible("price", |quantity: &u64| 3 * quantity).containers(2).start()?;
    assert_eq!(price.call(4).wait()?, 12);

    let dashboard = Dashboard::of(&app);
    rt::System::new().block_on(async {
        let site = move || {
            let shop = web::resource("/").to(async || "the shop");
            // Wrap the scope in the login of your application: the dashboard shows names and panic messages.
            actix_web::App::new().service(shop).service(dashboard.scope("/ops/longshore"))
        };
        let server = HttpServer::new(site).workers(1).disable_signals().bind("127.0.0.1:0")?;
        let address = server.addrs()[0];
        println!("http://{address}/ops/longshore");
        let server = server.run();
        let handle = server.handle();
        let server = rt::spawn(server);
        if std::env::args().nth(1).is_none() {
            let ask = move || client::get(address, "/ops/longshore/healthz", "");
            let (status, health) = rt::task::spawn_blocking(ask).await??;
            println!("{status}, {}", health.trim_end());
            handle.stop(false).await;
        }
        server.await??;
        Ok::<(), Box<dyn Error>>(())
    })?;
    println!("ended well: {}", app.shutdown_blocking().is_clean());
    Ok(())
}

server {
  listen = env("LISTEN", "127.0.0.1:8080")
}

plugins {
  dir = "../../bin/plugins"
}

source "shop" "web" { # POST /hooks/web
  secrets = [env("SHOP_SECRET")]
}

sink "file" "orders" {
  dir = "data/orders"
}

route "orders" {
  on = ["shop.order.*"]
  to "file" "orders" {
    record = { order = event.data.id, what = event.operation, total = event.data.total }
  }
}

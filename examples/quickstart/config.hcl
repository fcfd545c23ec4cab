# A shop posts its orders, and the large ones are written to a file.

server {
  listen = env("LISTEN", "127.0.0.1:8080")
}

plugins {
  dir = "../../bin/plugins"
}

source "json" "shop" { # POST /hooks/shop
  auth    = "bearer"   # Authorization: Bearer …
  secrets = [env("SHOP_TOKEN")]

  provider = "shop"
  dedupe   = ["{/order/id}/{/event}"]
  event {
    type    = "{/event}"
    subject = "order/{/order/id}"
    data    = "/order"
  }
  types = {
    "order.created" = { sample = { body = file("order.json") } }
  }
}

sink "file" "orders" {
  dir = "data/orders"
}

route "large_orders" {
  on   = ["shop.order.created"]
  when = event.data.total > 1000

  to "file" "orders" {
    path = "large.jsonl"
    record = {
      id   = event.data.id
      text = "${event.data.customer.name} ordered for ${event.data.total}"
    }
  }
}

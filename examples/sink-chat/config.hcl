# New orders of the shop are told to the chat. The shop is the example beside this one.

server {
  listen = env("LISTEN", "127.0.0.1:8080")
}

plugins {
  dir = "../../bin/plugins"
}

source "shop" "web" { # POST /hooks/web
  secrets = [env("SHOP_SECRET")]
}

sink "chat" "ops" {
  url   = env("CHAT_URL")
  token = env("CHAT_TOKEN")
}

route "orders" {
  on = ["shop.order.created"]
  to "chat" "ops" {
    text = "Order ${event.data.id}: ${coalesce(event.data.total, "no price yet")}"
  }
}

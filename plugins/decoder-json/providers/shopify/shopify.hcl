# Shopify: X-Shopify-Topic names the event, the body is the record, and the signature is an HMAC of the body in base64.
source "json" "shop" {              # POST /hooks/shop
  secrets = [env("SHOPIFY_SECRET")] # the app's client secret

  provider = "shopify"
  title    = "Shopify"

  signature {
    header   = "X-Shopify-Hmac-Sha256"
    encoding = "base64"
  }
  dedupe = ["{header.X-Shopify-Webhook-Id}"] # the same when Shopify tries again

  event {
    type    = "{header.X-Shopify-Topic}"
    subject = "{header.X-Shopify-Topic}/{/id}"
    # One shop's orders/create and orders/paid of one order, in order:
    partition_key = "{/id}"
    tenant        = "{header.X-Shopify-Shop-Domain}"
    time          = "{/updated_at}"
  }
  types = {
    "order.created" = {
      words       = ["orders/create"]
      description = "A customer ordered."
      sample = {
        body = file("order-created.json")
        headers = {
          X-Shopify-Topic      = "orders/create", X-Shopify-Shop-Domain = "example.myshopify.com"
          X-Shopify-Webhook-Id = "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"
        }
      }
    }
    "order.paid" = { words = ["orders/paid"], operation = "updated" }
  }
}

sink "file" "orders" {
  dir = "data/orders"
}

route "orders" {
  on = ["shopify.order.*"]
  to "file" "orders" {
    record = { order = event.data.id, total = event.data.total_price, mail = event.data.customer.email, shop = event.tenant }
  }
}

# Tests of the routes in config.hcl: `grapnel test` runs them; docs/testing.md explains what can be written here.

# What the configuration sees of the environment, and nothing else: no secret is needed.
env {
  PAYROLL_DIR       = "payroll"
  SLACK_WEBHOOK_URL = "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
}

test "payroll and people ops hear of a new employee" {
  given {
    source = source.peopleforce.people
    type   = "peopleforce.employee.created"
    set = {
      "data.attributes.first_name" = "Ada"
    }
  }
  expect { # these deliveries and no others
    to "file" "audit" {}
    to "file" "payroll" {
      route     = "new_hires"
      order_key = "employee/130333"
      message = { # the whole message
        path = "new-hires.jsonl"
        record = {
          employee   = 130333
          first_name = "Ada"
          last_name  = "Doe"
          hired_on   = "2022-09-12"
          department = "IT"
          received   = "2026-01-02T03:04:05Z" # when requests of tests come in
        }
      }
    }
    to "slack" "people_ops" {
      fields = { text = "Welcome Ada!" } # whatever else the message holds
    }
  }
}

test "contractors stay out of payroll" {
  given {
    source = source.peopleforce.people
    type   = "peopleforce.employee.created"
    set    = { "data.department.name" = "Contractors" }
  }
  expect {
    to "file" "audit" {}
  }
}

test "an employee without a department and a first name is welcome, too" {
  given {
    source = source.peopleforce.people
    type   = "peopleforce.employee.created"
    remove = ["data.department", "data.attributes.first_name"]
  }
  expect {
    others = true # there may be more
    to "file" "payroll" {
      fields = { "record.last_name" = "Doe" }
      absent = ["record.first_name", "record.department"]
    }
    to "slack" "people_ops" {
      matches = { text = "^Welcome our new colleague!$" }
    }
  }
}

test "a first name pings nobody" {
  given {
    source = source.peopleforce.people
    type   = "peopleforce.employee.created"
    set    = { "data.attributes.first_name" = "<!channel>" }
  }
  expect {
    others = true
    to "slack" "people_ops" {
      fields = { text = "Welcome &lt;!channel&gt;!" }
    }
  }
}

test "payroll hears of leavers of PeopleForce" {
  given {
    source = source.peopleforce.people
    type   = "peopleforce.employee.terminated"
  }
  expect {
    to "file" "audit" {}
    to "file" "payroll" {
      route  = "leavers"
      fields = { path = "leavers.jsonl" }
      absent = ["record.tenant"]
    }
  }
}

test "payroll hears of ended employments of Youforce" {
  given {
    source = source.youforce.hr
    type   = "youforce.employment.deleted"
  }
  expect {
    to "file" "audit" {}
    to "file" "payroll" {
      route   = "leavers"
      matches = { "record.subject" = "^employment/" }
    }
  }
}

test "a job of AccuLynx is kept" {
  given {
    source = source.acculynx.roofing
    type   = "acculynx.job.created"
  }
  expect {
    to "file" "audit" {
      route = "everything"
    }
  }
}

test "what is no webhook of PeopleForce is refused" {
  given {
    source = source.peopleforce.people
    type   = "peopleforce.employee.created"
    body   = jsonencode({ hello = "world" })
  }
  expect {
    refused = "action"
  }
}

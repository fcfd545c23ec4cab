// Package web is the user interface of a host in a browser. It stands on admin.Control alone: whatever a page shows or
// does, the command line and the control API can show or do as well. It is an http.Handler for the root of the admin
// listener, whose guard lets nobody in without the token and no other origin post; Site checks neither.
//
// # A page
//
// A page is an address, a handler and a template. Pages of one subject share a Go file, which has a method that lists
// them; Site.pages names those methods. A handler is a method of call, which is the request with everything that a page
// needs: it asks call.control, and ends with
//
//	return c.page("Title", data)      // templates/<name>.html inside the layout
//	return c.part("rows", data)       // {{define "rows"}} of the same file alone, for htmx
//	return c.redirect("/somewhere")   // after a POST: 303
//	return err                        // an error page: admin.HTTPStatus says which
//
// <name> is page.template. The file defines "main", which gets the data as its dot, and whatever parts it wants;
// templates/parts.html has the parts that all share:
//
//	{{template "time" .At}}           relative, exact and in UTC on hover
//	{{template "id" .ID}}             monospaced, with a button that copies it
//	{{template "badge" .State}}       a state: sign, text and tone (see tone)
//	{{template "pager" .Pager}}       newer and older, by cursor
//	{{template "empty" (dict "Title" "…" "Text" "…")}}
//
// Functions of templates are in funcs.go. A page that is a place in the navigation has nav set, with the letter that,
// after g, goes there.
//
// # Rules
//
//   - Every page works without JavaScript: links, forms, and addresses that hold the whole state. Scripts only add.
//   - No inline script, no inline style, no style attribute: the Content-Security-Policy forbids them. SVG uses
//     presentation attributes and classes.
//   - A page that refreshes itself asks for one of its parts with hx-get and hx-trigger="every 2s"; elements that can
//     have the focus have an id there, so that they keep it.
//   - Foreign text goes through html/template only, never through template.HTML. Long text is cut with a link to the
//     whole.
//   - Colours come from the variables of app.css. A state has a word and a sign beside its colour.
//   - What changes something is a form with method post. What changes much shows first what it would change.
package web

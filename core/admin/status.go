package admin

// HTTPStatus is the status that the control API answers with where a Control gives err: 404 for what is not there, 400 for
// what cannot be asked, otherwise 500. The user interface answers alike.
func HTTPStatus(err error) int { return statusOf(err) }

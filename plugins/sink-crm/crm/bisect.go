package crm

import "context"

// Bisect applies operations with send and splits a batch that the far end refuses as a whole for what one record says.
// send returns one Result per operation, or split = true: the refusal may be one record's alone. A batch that is to be
// split is sent again in halves, one after the other, until single operations are left; for those, send's Results stand.
// One bad record among n so costs about 2·log2(n) further requests. What is not sent by ctx's end is NotSent.
func Bisect(ctx context.Context, ops []Op, send func(ctx context.Context, ops []Op) (results []Result, split bool)) []Result {
	if ctx.Err() != nil {
		return FailAll(len(ops), NotSent())
	}
	results, split := send(ctx, ops)
	if !split || len(ops) < 2 {
		return results
	}
	half := len(ops) / 2
	return append(Bisect(ctx, ops[:half:half], send), Bisect(ctx, ops[half:], send)...)
}

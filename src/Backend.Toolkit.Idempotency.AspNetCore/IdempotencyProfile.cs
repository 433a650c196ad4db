namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>In whose form the middleware answers what it does not let run.</summary>
public enum IdempotencyProfile
{
    /// <summary>As draft-ietf-httpapi-idempotency-key-header-07 says: problem details (RFC 9457), 422 for a key that was used for another request.</summary>
    Draft,

    /// <summary>As clients of Stripe's API know it: <c>{"error":{"type":"idempotency_error", …}}</c>, 400 for a key that was used for another request.</summary>
    Stripe,
}

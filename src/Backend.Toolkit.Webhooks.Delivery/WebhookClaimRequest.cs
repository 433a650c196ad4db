namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>What a worker asks of a store: due deliveries, fairly over the endpoints.</summary>
/// <param name="Lease">How long the worker may take; afterwards another takes over.</param>
/// <param name="AfterEndpointId">The store looks at endpoints with due work in the order of their ids, behind this one, and then from the beginning; empty: from the beginning.</param>
/// <param name="Quota">
/// How many deliveries to take of an endpoint, by its id and its consecutive failures; 0: none. Asked once for each endpoint, in order, until <see cref="MaxEndpoints"/> were asked for. Of an
/// endpoint with failures one is taken, whatever it says, and no other worker takes one before its outcome is recorded or the lease is over.
/// </param>
/// <param name="MaxEndpoints">How many endpoints to look at.</param>
public sealed record WebhookClaimRequest(TimeSpan Lease, string AfterEndpointId, Func<string, int, int> Quota, int MaxEndpoints = 256);

namespace Backend.Toolkit.Http;

/// <summary>
/// What one request may say about itself, in <see cref="HttpRequestMessage.Options"/>: <c>request.Options.Set(OutboundRequest.Total, TimeSpan.FromSeconds(2))</c>.
/// A value out of its range fails the request with an <see cref="ArgumentOutOfRangeException"/>.
/// </summary>
public static class OutboundRequest
{
    /// <summary>The time of this call in place of the policy's budget: zero, greater than zero, or <see cref="Timeout.InfiniteTimeSpan"/>.</summary>
    public static HttpRequestOptionsKey<TimeSpan> Total { get; } = new("Backend.Toolkit.Http.Total");

    /// <summary>The most attempts of this call, the first included, in place of the policy's: 1 to 100.</summary>
    public static HttpRequestOptionsKey<int> MaxAttempts { get; } = new("Backend.Toolkit.Http.MaxAttempts");

    /// <summary>True: this request is sent once.</summary>
    public static HttpRequestOptionsKey<bool> NoRetry { get; } = new("Backend.Toolkit.Http.NoRetry");

    /// <summary>True: sending this request twice does no more than sending it once, whatever its method. False: it does, whatever its method.</summary>
    public static HttpRequestOptionsKey<bool> SafeToRetry { get; } = new("Backend.Toolkit.Http.SafeToRetry");
}

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>What an attempt came to. Neither status nor error: it was cancelled, or not begun.</summary>
internal readonly record struct Answer(int? Status, TimeSpan Duration, string? Error, byte[] Response, TimeSpan? RetryAfter, bool IsEndpointsFault = true)
{
    /// <summary>A 2xx that was over in time.</summary>
    public bool IsSuccess => Error is null && Status is >= 200 and < 300;

    public bool IsNone => Status is null && Error is null;
}

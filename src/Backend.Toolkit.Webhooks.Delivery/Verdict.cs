using System.Globalization;
using System.Text;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>What follows from an answer: the state of the delivery, when it is tried again, and what it says of the endpoint. Pure.</summary>
internal static class Verdict
{
    public const string WindowOver = "the window for attempts is over";

    /// <param name="claim">The claim.</param>
    /// <param name="answer">The answer.</param>
    /// <param name="options">The options.</param>
    /// <param name="random">0 to 1, for the jitter.</param>
    public static WebhookOutcome Of(WebhookClaim claim, in Answer answer, WebhookDeliveryOptions options, double random)
    {
        var attempt = new WebhookAttempt(claim.Fence, default, answer.Status, answer.Duration, answer.Error, answer.Response);
        if (answer.IsSuccess)
        {
            return new WebhookOutcome(claim, WebhookDeliveryState.Delivered, TimeSpan.Zero, null, attempt, new WebhookEndpointHealth(0, TimeSpan.Zero));
        }

        if (answer.Status == 410)
        {
            const string gone = "the endpoint answered 410 Gone";
            return new WebhookOutcome(claim, WebhookDeliveryState.Dead, TimeSpan.Zero, gone, attempt, new WebhookEndpointHealth(1, options.FirstPause, gone, DisabledEvent(claim, gone)));
        }

        TimeSpan left = options.AttemptWindow - claim.Age - answer.Duration;
        TimeSpan? retryAfter = answer.Status is 429 or 503 && answer.RetryAfter is { } asked ? Min(asked, Latest(left, options)) : null;
        int failures = answer.Status is 502 or 504 ? 2 : 1;
        WebhookEndpointHealth health = answer.IsEndpointsFault ? Health(claim, retryAfter, failures, options) : new WebhookEndpointHealth(null, TimeSpan.Zero);
        if (claim.Attempts + 1 >= options.Delays.Count)
        {
            return new WebhookOutcome(claim, WebhookDeliveryState.Dead, TimeSpan.Zero, string.Create(CultureInfo.InvariantCulture, $"attempt {claim.Attempts + 1} of {options.Delays.Count} failed"), attempt, health);
        }

        TimeSpan delay = options.Delays[claim.Attempts + 1] * (0.8 + (0.2 * random));
        if (delay > left)
        {
            return new WebhookOutcome(claim, WebhookDeliveryState.Dead, TimeSpan.Zero, WindowOver, attempt, health);
        }

        return new WebhookOutcome(claim, WebhookDeliveryState.Pending, retryAfter > delay ? retryAfter.Value : delay, null, attempt, health);
    }

    /// <summary>A little before the end of the window, so that the attempt is still begun in it; the endpoint is paused no longer than that, either.</summary>
    private static TimeSpan Latest(TimeSpan left, WebhookDeliveryOptions options) => left > TimeSpan.Zero ? left - Min(left * 0.01, TimeSpan.FromMinutes(1)) : options.AttemptWindow;

    private static WebhookEndpointHealth Health(WebhookClaim claim, TimeSpan? retryAfter, int failures, WebhookDeliveryOptions options)
    {
        int doublings = Math.Min(claim.Endpoint.ConsecutiveFailures + failures - 1, 30);
        TimeSpan pause = Min(options.FirstPause * Math.Pow(2, doublings), options.MaxPause);
        if (retryAfter > pause)
        {
            pause = retryAfter.Value;
        }

        if (claim.FailingFor < options.DisableAfter || claim.FailingFor is null)
        {
            return new WebhookEndpointHealth(failures, pause);
        }

        string reason = string.Create(CultureInfo.InvariantCulture, $"nothing but failures for {claim.FailingFor.Value.TotalDays:0.#} days");
        return new WebhookEndpointHealth(failures, pause, reason, DisabledEvent(claim, reason));
    }

    /// <summary>For the audience's endpoints that are enabled. The id makes it one event, whoever tells it.</summary>
    private static WebhookEventRow DisabledEvent(WebhookClaim claim, string reason)
    {
        string payload = $$$"""{"type":"{{{WebhookEndpoints.DisabledType}}}","data":{"endpointId":"{{{claim.Endpoint.Id}}}","reason":"{{{reason}}}"}}""";
        string id = string.Create(CultureInfo.InvariantCulture, $"msg_disabled_{claim.Endpoint.Id}_{claim.DeliveryId}_{claim.Fence}");
        return new WebhookEventRow(id, WebhookEndpoints.DisabledType, claim.Endpoint.Audience, null, null, null, Encoding.UTF8.GetBytes(payload));
    }

    private static TimeSpan Min(TimeSpan one, TimeSpan other) => one < other ? one : other;
}

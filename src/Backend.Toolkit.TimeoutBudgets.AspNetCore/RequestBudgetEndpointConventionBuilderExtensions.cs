using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>Sets the maximum of single endpoints.</summary>
public static class RequestBudgetEndpointConventionBuilderExtensions
{
    /// <summary>
    /// The time that a request to these endpoints has at most, in place of <see cref="RequestBudgetOptions.Maximum"/>; the caller's headers shorten it. Of a
    /// group's and an endpoint's own, the endpoint's counts. A request for which <c>UseTimeoutBudgets</c> did not run fails with an <see cref="InvalidOperationException"/>.
    /// Where that runs before the endpoint is chosen (before <c>UseRouting</c>), the maximum of the endpoint can only shorten.
    /// </summary>
    /// <typeparam name="TBuilder">The type of <paramref name="builder"/>.</typeparam>
    /// <param name="builder">An endpoint, a group, or all controllers.</param>
    /// <param name="maximum">Greater than 0, or <see cref="Timeout.InfiniteTimeSpan"/>: no maximum. No upper limit.</param>
    /// <returns>The builder.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="maximum"/> is zero, or negative and not infinite.</exception>
    public static TBuilder WithTimeoutBudget<TBuilder>(this TBuilder builder, TimeSpan maximum)
        where TBuilder : IEndpointConventionBuilder
    {
        ArgumentNullException.ThrowIfNull(builder);
        if (!RequestBudgetOptions.IsValidMaximum(maximum))
        {
            throw new ArgumentOutOfRangeException(nameof(maximum), maximum, "A maximum must be greater than 0, or Timeout.InfiniteTimeSpan.");
        }

        var own = new EndpointBudget(maximum);
        builder.Add(endpoint => endpoint.Metadata.Add(own));
        builder.Finally(Guard);
        return builder;
    }

    /// <summary>Metadata alone would pass unnoticed where the middleware does not run, so the endpoint itself looks whether it did.</summary>
    private static void Guard(EndpointBuilder endpoint)
    {
        if (endpoint.RequestDelegate is { } next && endpoint.Metadata.OfType<EndpointBudget>().LastOrDefault() is { } budget)
        {
            string? name = endpoint.DisplayName;
            endpoint.RequestDelegate = context => Run(context, next, budget, name);
        }
    }

    private static Task Run(HttpContext context, RequestDelegate next, EndpointBudget endpointBudget, string? name)
    {
        RequestBudget requestBudget = context.Features.Get<RequestBudget>() ?? throw new InvalidOperationException(
            $"Endpoint {name} has a timeout budget, but UseTimeoutBudgets() did not run for this request. Call app.UseTimeoutBudgets() after UseRouting() and before the endpoints run.");
        return requestBudget.Has(endpointBudget) ? next(context) : RunInsideAsync(context, next, endpointBudget, requestBudget);
    }

    private static async Task RunInsideAsync(HttpContext context, RequestDelegate next, EndpointBudget endpointBudget, RequestBudget requestBudget)
    {
        requestBudget.Shorten(endpointBudget);
        await next(context).ConfigureAwait(false);
    }
}

/// <summary>Metadata of an endpoint.</summary>
internal sealed record EndpointBudget(TimeSpan Maximum);

using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Encodings.Web;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.Pagination;

namespace Shop;

/// <summary>What <c>/state</c> and <c>/</c> show. Answers: how often POST /orders was answered with each status.</summary>
internal sealed record ShopState(string Payments, CircuitState Circuit, double RetriesLeft, long PaymentsCalls, long Retries, IReadOnlyDictionary<int, long> Answers);

/// <summary>Counts what comes in and what goes out.</summary>
internal sealed class Traffic
{
    private readonly ConcurrentDictionary<int, long> _answers = new();
    private long _calls;
    private long _retries;

    public async Task CountAsync(HttpContext context, RequestDelegate next)
    {
        await next(context);
        if (HttpMethods.IsPost(context.Request.Method) && context.Request.Path == "/orders")
        {
            _answers.AddOrUpdate(context.Response.StatusCode, 1, static (_, count) => count + 1);
        }
    }

    public void CountCall(bool isRetry)
    {
        Interlocked.Increment(ref _calls);
        if (isRetry)
        {
            Interlocked.Increment(ref _retries);
        }
    }

    public ShopState State(string payments, CircuitState circuit, double retriesLeft) =>
        new(payments, circuit, retriesLeft, Interlocked.Read(ref _calls), Interlocked.Read(ref _retries), new SortedDictionary<int, long>(_answers));
}

/// <summary>Behind the policy, so that it sees each attempt.</summary>
internal sealed class CountedAttempts(Traffic traffic) : DelegatingHandler
{
    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        traffic.CountCall(isRetry: request.Headers.Contains("Retry-Attempt"));
        return base.SendAsync(request, cancellationToken);
    }
}

/// <summary>The page at <c>/</c>; it reloads itself. Everything that it shows is encoded.</summary>
internal static class StatePage
{
    public static string Render(ShopState state, Page<Order> orders, OrderStatus? status) => $$"""
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta http-equiv="refresh" content="2">
        <title>Shop: circuit {{Text(state.Circuit)}}</title>
        <style>body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem; } td, th { text-align: left; padding-right: 2rem; }</style>
        </head>
        <body>
        <h1>Shop</h1>
        <table>
        <tr><th scope="row">Circuit to payments</th><td>{{Text(state.Circuit)}}</td></tr>
        <tr><th scope="row">Calls to payments</th><td>{{Text(state.PaymentsCalls)}}, {{Text(state.Retries)}} of them retries</td></tr>
        <tr><th scope="row">Retries that the budget allows now</th><td>{{Text(Math.Floor(state.RetriesLeft))}}</td></tr>
        <tr><th scope="row">Answers to POST /orders</th><td>{{Text(string.Join(", ", state.Answers.Select(answer => $"{answer.Key}: {answer.Value}")))}}</td></tr>
        <tr><th scope="row">Payments</th><td>{{Text(state.Payments)}}</td></tr>
        </table>
        <h2>Orders, newest first</h2>
        <p><a href="/">All</a> <a href="/?status=pending">Pending</a> <a href="/?status=paid">Paid</a> <a href="/?status=declined">Declined</a></p>
        <table>
        <tr><th scope="col">Item</th><th scope="col">Amount</th><th scope="col">Status</th></tr>
        {{string.Join('\n', orders.Items.Select(order => $"<tr><td>{Text(order.Item)}</td><td>{Text($"{order.Cents / 100}.{order.Cents % 100:00}")}</td><td>{Text(order.Status)}</td></tr>"))}}
        </table>
        <p>{{Link("Newer", "prev", orders.Previous, status)}} {{Link("Older", "next", orders.Next, status)}}</p>
        </body>
        </html>
        """;

    private static string Link(string text, string relation, string? cursor, OrderStatus? status) => cursor is null ? ""
        : $"""<a rel="{relation}" href="/?cursor={Text(cursor)}{(status is null ? "" : $"&amp;status={Text(status)}")}">{text}</a>""";

    private static string Text(object value) => HtmlEncoder.Default.Encode(Convert.ToString(value, CultureInfo.InvariantCulture) ?? "");
}

using System.Globalization;
using System.Net;
using Backend.Toolkit.Http;
using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.RateLimiting.AspNetCore;
using Backend.Toolkit.TimeoutBudgets;
using Backend.Toolkit.TimeoutBudgets.AspNetCore;

namespace Shop;

/// <summary>
/// User -> shop -> payments, and twice as many orders as payments can charge. They come whether earlier ones were answered or not; each user leaves after a second. Payments has so many workers, a queue before
/// them that those leave who hang up, and a charge that was begun is not taken back. With and without the toolkit differ in what is registered, and in nothing else.
/// </summary>
internal static class Overload
{
    private const int Workers = 5;
    private const double OrdersPerSecond = 2 * Capacity;

    private static readonly TimeSpan Charge = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    /// <summary>Charges in a second: what the workers can do.</summary>
    public const double Capacity = 50;

    public static async Task<Incident> PlayAsync(Progress progress, TimeSpan duration, CancellationToken stopping)
    {
        progress.Step("with the toolkit: overload");
        Seen with = await PlayAsync(toolkit: true, duration, stopping);
        progress.Step("without the toolkit: overload");
        Seen without = await PlayAsync(toolkit: false, duration, stopping);
        progress.Say(string.Create(CultureInfo.InvariantCulture, $"""
            Payments can charge {Capacity} orders a second, {OrdersPerSecond} come for {duration.TotalSeconds} s, and users leave after {Incident.Milliseconds(Patience)}. Of {with.Orders} orders
            with {with.Paid} were paid in time, {with.Refused} refused, {with.Failed} failed and {with.Left} users left; {with.ForNobody} charges were for users who had left,
            without {without.Paid} were paid in time, {without.Refused} refused, {without.Failed} failed and {without.Left} users left; {without.ForNobody} charges were for users who had left.

            """));
        return new Incident("overload: twice what payments can do", "paid, of capacity; p99 (users leave at 1 s); charges for nobody", Tell(with), Tell(without));

        string Tell(Seen seen) => $"{Incident.Percent(seen.Paid / (Capacity * seen.Elapsed.TotalSeconds))}; {Incident.Milliseconds(seen.P99)}; {seen.ForNobody}";
    }

    public static async Task<Seen> PlayAsync(bool toolkit, TimeSpan duration, CancellationToken stopping)
    {
        using var workers = new SemaphoreSlim(Workers);
        int charges = 0;
        await using WebApplication payments = await Loopback.StartAsync(toolkit ? Limit : null, ChargeAsync, app =>
        {
            if (toolkit)
            {
                app.UseTimeoutBudgets();
                app.UseRateLimits(policy: "charges");
            }
        });
        await using WebApplication shop = await Loopback.StartAsync(Client, OrderAsync, app =>
        {
            if (toolkit)
            {
                app.UseTimeoutBudgets();
            }
        });
        using HttpClient users = Loopback.NewClient(shop.Urls.First());
        users.Timeout = Patience;

        // Until what is measured next has been compiled.
        for (int i = 0; i < 10; i++)
        {
            await Task.WhenAll(Enumerable.Range(0, Workers).Select(_ => UserAsync()));
        }

        charges = 0;
        int orders = (int)(OrdersPerSecond * duration.TotalSeconds);
        var waiting = new Task<(HttpStatusCode? Status, TimeSpan Latency)>[orders];
        long start = TimeProvider.System.GetTimestamp();
        for (int i = 0; i < orders; i++)
        {
            TimeSpan early = i / OrdersPerSecond * TimeSpan.FromSeconds(1) - TimeProvider.System.GetElapsedTime(start);
            if (early > TimeSpan.Zero)
            {
                await Task.Delay(early, stopping);
            }

            waiting[i] = UserAsync();
        }

        (HttpStatusCode? Status, TimeSpan Latency)[] answers = await Task.WhenAll(waiting);
        TimeSpan elapsed = TimeProvider.System.GetElapsedTime(start);
        for (int i = 0; i < Workers; i++)
        {
            // Until no charge is under way.
            await workers.WaitAsync(stopping);
        }

        int paid = answers.Count(answer => answer.Status == HttpStatusCode.OK), left = answers.Count(answer => answer.Status is null);
        int refused = answers.Count(answer => answer.Status is HttpStatusCode.TooManyRequests or HttpStatusCode.ServiceUnavailable);
        TimeSpan p99 = answers.Select(answer => answer.Latency).Order().ElementAt((int)Math.Ceiling(0.99 * orders) - 1);
        return new Seen(orders, paid, refused, orders - paid - refused - left, left, charges - paid, p99, elapsed);

        async Task<(HttpStatusCode? Status, TimeSpan Latency)> UserAsync()
        {
            long sent = TimeProvider.System.GetTimestamp();
            HttpStatusCode? status = null;
            try
            {
                using HttpResponseMessage response = await users.PostAsync("", null, stopping);
                status = response.StatusCode;
            }
            catch (Exception gone) when (gone is TaskCanceledException or HttpRequestException && !stopping.IsCancellationRequested)
            {
            }

            return (status, TimeProvider.System.GetElapsedTime(sent));
        }

        void Client(IServiceCollection services)
        {
            IHttpClientBuilder client = Loopback.AddClient(services, "payments", payments.Urls.First(), toolkit ? Timeout.InfiniteTimeSpan : Patience);
            if (toolkit)
            {
                services.AddTimeoutBudgets(o => o.Maximum = Patience);
                client.AddOutboundPolicy(o => (o.Budget!.Total, o.AttachIdempotencyKey) = (Patience, true));
            }
        }

        async Task OrderAsync(HttpContext context)
        {
            HttpClient client = context.RequestServices.GetRequiredService<IHttpClientFactory>().CreateClient("payments");
            using HttpResponseMessage response = await client.PostAsync("", null, context.RequestAborted);
            context.Response.StatusCode = (int)response.StatusCode;
        }

        async Task ChargeAsync(HttpContext context)
        {
            await workers.WaitAsync(context.RequestAborted);
            try
            {
                // Too late to begin: known only where the caller says how long it waits.
                if (TimeoutBudget.TimeLeft() < Charge)
                {
                    context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
                    return;
                }

                await Task.Delay(Charge, stopping);
                Interlocked.Increment(ref charges);
            }
            finally
            {
                workers.Release();
            }
        }
    }

    /// <summary>What payments can do, a little of what comes too early, and nothing that would wait longer than its caller does.</summary>
    private static void Limit(IServiceCollection services) => services
        .AddTimeoutBudgets()
        .AddRateLimits()
        .AddTokenBucketLimiter<HttpContext>("charges", _ => "all", o =>
        {
            o.Limits.Add(new RateLimit(Capacity, TimeSpan.FromSeconds(1), burst: Workers));
            o.QueueLimit = 20;
            o.TimeLeft = () => TimeoutBudget.TimeLeft() - Charge;
        });

    /// <param name="Orders">How many came.</param>
    /// <param name="Paid">Answered in time that they are paid.</param>
    /// <param name="Refused">Answered in time that there is no room for them: 429 or 503.</param>
    /// <param name="Failed">Answered in time with anything else.</param>
    /// <param name="Left">Not answered in time.</param>
    /// <param name="ForNobody">Charges of which no user heard.</param>
    /// <param name="P99">How long users waited, which ends when they leave; by nearest rank.</param>
    /// <param name="Elapsed">From the first order to the last answer.</param>
    internal sealed record Seen(int Orders, int Paid, int Refused, int Failed, int Left, int ForNobody, TimeSpan P99, TimeSpan Elapsed);
}

using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Json;
using System.Threading.Channels;

namespace Shop;

/// <summary>
/// Four who want to hear of orders, one of whom takes connections and never answers. Without the toolkit the sender is the loop that many begin with: one post after the other, each tried three times.
/// </summary>
internal static class DeadEndpoint
{
    private const int Attempts = 3;
    private const string Dead = "/customer-2";

    private static readonly string[] Healthy = ["/customer-1", "/customer-3", "/customer-4"];
    private static readonly TimeSpan AttemptTimeout = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan BetweenAttempts = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan Pace = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan Never = TimeSpan.FromSeconds(30);

    public static async Task<Incident> PlayAsync(Progress progress, int orders, CancellationToken stopping)
    {
        progress.Step("with the toolkit: a dead webhook endpoint");
        Delays with = await PlayAsync(toolkit: true, orders, stopping);
        progress.Step("without the toolkit: a dead webhook endpoint");
        Delays without = await PlayAsync(toolkit: false, orders, stopping);
        progress.Say(string.Create(CultureInfo.InvariantCulture, $"""
            {orders} orders, one per {Incident.Milliseconds(Pace)}; {Healthy.Length} webhook endpoints that answer, and one that never does. An attempt may take {Incident.Milliseconds(AttemptTimeout)}. From an order until those that answer hear of it:
            with {Incident.Milliseconds(with.Median)} in the middle, {Incident.Milliseconds(with.Worst)} at worst,
            without {Incident.Milliseconds(without.Median)} in the middle, {Incident.Milliseconds(without.Worst)} at worst (one post after the other, {Attempts} attempts each).

            """));
        return new Incident("one webhook endpoint is dead", "the others hear after (median); at worst", Tell(with), Tell(without));

        static string Tell(Delays delays) => $"{Incident.Milliseconds(delays.Median)}; {Incident.Milliseconds(delays.Worst)}";
    }

    /// <returns>How long after an order the endpoints that answer heard of it.</returns>
    public static async Task<Delays> PlayAsync(bool toolkit, int orders, CancellationToken stopping)
    {
        var placed = new ConcurrentDictionary<Guid, long>();
        var heard = new ConcurrentDictionary<(string Endpoint, Guid Order), long>();
        await using WebApplication receivers = await Loopback.StartAsync(null, async context =>
        {
            if (context.Request.Path == Dead)
            {
                await Task.Delay(Timeout.Infinite, context.RequestAborted);
            }

            Order order = (await JsonSerializer.DeserializeAsync<Order>(context.Request.Body, Export.Json, context.RequestAborted))!;
            heard.TryAdd((context.Request.Path.Value!, order.Id), TimeProvider.System.GetTimestamp());
        });
        await using TourShop shop = await TourShop.StartAsync(toolkit: true, [$"--Webhooks:AttemptTimeout={AttemptTimeout}"], stopping);
        var posts = Channel.CreateUnbounded<Order>();
        string[] endpoints = [.. Healthy.Append(Dead).Order().Select(path => receivers.Urls.First() + path)];
        using var sending = CancellationTokenSource.CreateLinkedTokenSource(stopping);
        Task sender = Task.CompletedTask;
        if (toolkit)
        {
            foreach (string endpoint in endpoints)
            {
                using HttpResponseMessage created = await shop.Users.PostAsJsonAsync("webhooks/endpoints", new NewEndpoint(endpoint, ["order.created"]), stopping);
                created.EnsureSuccessStatusCode();
            }
        }
        else
        {
            sender = PostAllAsync(posts.Reader, endpoints, sending.Token);
        }

        long start = TimeProvider.System.GetTimestamp();
        for (int i = 0; i < orders; i++)
        {
            TimeSpan early = i * Pace - TimeProvider.System.GetElapsedTime(start);
            if (early > TimeSpan.Zero)
            {
                await Task.Delay(early, stopping);
            }

            long sent = TimeProvider.System.GetTimestamp();
            using HttpResponseMessage response = await shop.OrderAsync(stopping);
            Order order = (await response.EnsureSuccessStatusCode().Content.ReadFromJsonAsync<Order>(Export.Json, stopping))!;
            placed.TryAdd(order.Id, sent);
            posts.Writer.TryWrite(order);
        }

        while (heard.Count < orders * Healthy.Length && TimeProvider.System.GetElapsedTime(start) < Never)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(20), stopping);
        }

        await sending.CancelAsync();
        await sender.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        TimeSpan?[] delays = [.. heard.Select(message => (TimeSpan?)TimeProvider.System.GetElapsedTime(placed[message.Key.Order], message.Value)).Order(), .. new TimeSpan?[orders * Healthy.Length - heard.Count]];
        return new Delays(delays[delays.Length / 2], delays[^1]);
    }

    private static async Task PostAllAsync(ChannelReader<Order> orders, string[] endpoints, CancellationToken stopping)
    {
        using HttpClient http = Loopback.NewClient(endpoints[0]);
        http.Timeout = AttemptTimeout;
        await foreach (Order order in orders.ReadAllAsync(stopping))
        {
            foreach (string endpoint in endpoints)
            {
                for (int attempt = 1; attempt <= Attempts && !await PostAsync(endpoint, order); attempt++)
                {
                    await Task.Delay(BetweenAttempts, stopping);
                }
            }
        }

        async Task<bool> PostAsync(string endpoint, Order order)
        {
            try
            {
                using HttpResponseMessage response = await http.PostAsJsonAsync(endpoint, order, Export.Json, stopping);
                return response.IsSuccessStatusCode;
            }
            catch (Exception failed) when (failed is HttpRequestException or TaskCanceledException && !stopping.IsCancellationRequested)
            {
                return false;
            }
        }
    }

    /// <summary>Null: never.</summary>
    internal sealed record Delays(TimeSpan? Median, TimeSpan? Worst);
}

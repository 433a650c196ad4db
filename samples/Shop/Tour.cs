using System.Globalization;
using System.Net;

namespace Shop;

/// <summary>Each user places one order after the other, at most one per <paramref name="Pace"/>, in each phase.</summary>
internal sealed record TourLoad(int Users, int OrdersEach, TimeSpan Pace);

/// <summary>
/// Plays the same incident against two shops, one after the other: with the toolkit, and with a plain HttpClient in its place. All over HTTP; all that is
/// printed was measured.
/// </summary>
internal static class Tour
{
    private static readonly (string Name, Fault Fault)[] Phases =
    [
        ("healthy", new Fault(FaultMode.Healthy)),
        ("30 % errors", new Fault(FaultMode.Failing, Ratio: 0.3)),
        ("hang", new Fault(FaultMode.Hanging)),
        ("recovery", new Fault(FaultMode.Healthy)),
    ];

    /// <param name="output">Gets the progress and the table.</param>
    /// <param name="load">How many orders, how fast.</param>
    /// <param name="settings">Further arguments for both shops.</param>
    public static async Task RunAsync(TextWriter output, TourLoad load, params string[] settings)
    {
        await output.WriteLineAsync(string.Create(CultureInfo.InvariantCulture, $"""
            {load.Users} users place {load.OrdersEach} orders each per phase, one after the other, at most one per {load.Pace.TotalMilliseconds:0} ms.
            with     timeout budget -> retry -> circuit breaker -> attempt timeout -> HttpClient
            without  HttpClient alone; its Timeout is the total of that timeout budget

            """));
        Seen[] with = await PlayAsync(output, "with", load, settings);
        Seen[] without = await PlayAsync(output, "without", load, [.. settings, "--plain", "true"]);

        await output.WriteLineAsync();
        await output.WriteLineAsync("phase        toolkit   success       p50       p99   payments calls   answers");
        for (int i = 0; i < Phases.Length; i++)
        {
            await output.WriteLineAsync(Row(Phases[i].Name, "with", with[i]));
            await output.WriteLineAsync(Row("", "without", without[i]));
        }

        await output.WriteLineAsync();
        await output.WriteLineAsync($"First order paid after the fault was gone: with {Milliseconds(with[^1].FirstPaid)}, without {Milliseconds(without[^1].FirstPaid)}.");
        await output.WriteLineAsync();
        await HangUp.PlayAsync(output, CancellationToken.None);
        await output.WriteLineAsync();
        await Chain.PlayAsync(output, CancellationToken.None);
    }

    private static async Task<Seen[]> PlayAsync(TextWriter output, string side, TourLoad load, string[] settings)
    {
        await using WebApplication shop = ShopApplication.Build([.. settings, "--urls", "http://127.0.0.1:0", "--Logging:LogLevel:Backend.Toolkit", "None"]);
        CancellationToken stopping = shop.Lifetime.ApplicationStopping;
        await shop.StartAsync(stopping);
        using var users = new HttpClient { BaseAddress = new Uri(shop.Urls.First()) };
        using var payments = new HttpClient { BaseAddress = new Uri(shop.Services.GetRequiredService<PaymentsService>().Address) };

        // Until what is measured next has been compiled.
        await LoadAsync(users, load with { OrdersEach = 60, Pace = TimeSpan.Zero }, stopping);

        List<Seen> seen = [];
        foreach ((string name, Fault fault) in Phases)
        {
            await output.WriteLineAsync($"{side} the toolkit: {name}");
            (await payments.PostAsJsonAsync("faults", new { mode = fault.Mode.ToString(), fault.Ratio }, stopping)).EnsureSuccessStatusCode();
            ChargeCount before = (await payments.GetFromJsonAsync<ChargeCount>("charges", stopping))!;
            Answer[] answers = await LoadAsync(users, load, stopping);
            ChargeCount after = (await payments.GetFromJsonAsync<ChargeCount>("charges", stopping))!;
            seen.Add(new Seen(answers, after.Calls - before.Calls));
        }

        await shop.StopAsync(CancellationToken.None);
        return [.. seen];
    }

    private static async Task<Answer[]> LoadAsync(HttpClient shop, TourLoad load, CancellationToken stopping)
    {
        long start = TimeProvider.System.GetTimestamp();
        Answer[][] answers = await Task.WhenAll(Enumerable.Range(0, load.Users).Select(_ => UserAsync()));
        return [.. answers.SelectMany(user => user)];

        async Task<Answer[]> UserAsync()
        {
            var answers = new Answer[load.OrdersEach];
            for (int i = 0; i < answers.Length; i++)
            {
                TimeSpan sent = TimeProvider.System.GetElapsedTime(start);
                using HttpRequestMessage order = NewOrder(Guid.NewGuid().ToString());
                using HttpResponseMessage response = await shop.SendAsync(order, stopping);
                TimeSpan answered = TimeProvider.System.GetElapsedTime(start);
                answers[i] = new Answer(response.StatusCode, answered - sent, answered);
                TimeSpan early = (i + 1) * load.Pace - answered;
                if (early > TimeSpan.Zero)
                {
                    await Task.Delay(early, stopping);
                }
            }

            return answers;
        }
    }

    private static HttpRequestMessage NewOrder(string key) => new(HttpMethod.Post, "orders")
    {
        Headers = { { "Idempotency-Key", $"\"{key}\"" } },
        Content = JsonContent.Create(new { item = "teapot", cents = 1250 }),
    };

    private static string Row(string phase, string side, Seen seen) => string.Create(
        CultureInfo.InvariantCulture,
        $"{phase,-11}  {side,-8}{100 * seen.Success,7:0.0} %{Milliseconds(seen.Percentile(0.5)),10}{Milliseconds(seen.Percentile(0.99)),10}{seen.PaymentsCalls,17}   {seen.Statuses}");

    private static string Milliseconds(TimeSpan? time) => time is { } known ? string.Create(CultureInfo.InvariantCulture, $"{known.TotalMilliseconds:0} ms") : "never";

    /// <param name="Status">The status.</param>
    /// <param name="Latency">From the request to the answer.</param>
    /// <param name="At">From the start of the phase to the answer.</param>
    private sealed record Answer(HttpStatusCode Status, TimeSpan Latency, TimeSpan At);

    private sealed record Seen(Answer[] Answers, int PaymentsCalls)
    {
        public double Success => (double)Answers.Count(IsPaid) / Answers.Length;

        public TimeSpan? FirstPaid => Answers.Where(IsPaid).Min(answer => (TimeSpan?)answer.At);

        public string Statuses => string.Join("  ", Answers.CountBy(answer => (int)answer.Status).OrderBy(status => status.Key).Select(status => $"{status.Key}: {status.Value}"));

        /// <summary>By nearest rank.</summary>
        public TimeSpan Percentile(double part) => Answers.Select(answer => answer.Latency).Order().ElementAt((int)Math.Ceiling(part * Answers.Length) - 1);

        private static bool IsPaid(Answer answer) => answer.Status == HttpStatusCode.Created;
    }
}

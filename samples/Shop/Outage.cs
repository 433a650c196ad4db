using System.Globalization;
using System.Net;

namespace Shop;

/// <summary>Each user places one order after the other, at most one per <paramref name="Pace"/>, in each phase.</summary>
internal sealed record TourLoad(int Users, int OrdersEach, TimeSpan Pace);

/// <summary>Payments fails now and then, fails all, hangs, and is back after each: the same against a shop with the toolkit, and one with a plain HttpClient in its place.</summary>
internal static class Outage
{
    private static readonly (string Name, Fault Fault)[] Phases =
    [
        ("healthy", new Fault(FaultMode.Healthy)),
        ("30 % errors", new Fault(FaultMode.Failing, Ratio: 0.3)),
        ("outage", new Fault(FaultMode.Failing)),
        ("back", new Fault(FaultMode.Healthy)),
        ("hang", new Fault(FaultMode.Hanging)),
        ("back again", new Fault(FaultMode.Healthy)),
    ];

    public static async Task<Incident[]> PlayAsync(Progress progress, TourLoad load, CancellationToken stopping)
    {
        Dictionary<string, Seen> with = await PlayAsync(toolkit: true, progress, load, [], stopping), without = await PlayAsync(toolkit: false, progress, load, [], stopping);
        progress.Say(string.Create(CultureInfo.InvariantCulture, $"""

            {load.Users} users place {load.OrdersEach} orders each per phase, one after the other, at most one per {load.Pace.TotalMilliseconds:0} ms.
            with     timeout budget -> retry -> circuit breaker -> attempt timeout -> HttpClient
            without  HttpClient alone; its Timeout is the total of that timeout budget

            phase        toolkit   success       p50       p99   payments calls   answers
            """));
        foreach ((string name, _) in Phases)
        {
            progress.Say(Row(name, "with", with[name]));
            progress.Say(Row("", "without", without[name]));
        }

        progress.Say("");
        return
        [
            Compare("30 % errors", "payments fails 30 % of the calls", "orders paid; calls to payments", seen => $"{Incident.Percent(seen.Success)}; {seen.PaymentsCalls}"),
            Compare("outage", "payments fails all calls", "calls it still gets; users told when to come back", seen => $"{seen.PaymentsCalls}; {seen.Answers.Count(answer => answer.SaysWhen)}"),
            Compare("hang", "payments hangs", "median answer; calls it still gets", seen => $"{Incident.Milliseconds(seen.Percentile(0.5))}; {seen.PaymentsCalls}"),
            new("payments is back", $"first order paid after; orders paid of {load.Users * load.OrdersEach}", Return(with), Return(without)),
        ];

        Incident Compare(string phase, string what, string measured, Func<Seen, string> tell) => new(what, measured, tell(with[phase]), tell(without[phase]));
    }

    /// <summary>Payments is back twice: the time in which fewer orders were paid.</summary>
    public static string Return(Dictionary<string, Seen> phases)
    {
        Seen worse = new[] { phases["back"], phases["back again"] }.MinBy(seen => seen.Paid)!;
        return string.Create(CultureInfo.InvariantCulture, $"{Incident.Milliseconds(worse.FirstPaid)}; {worse.Paid}");
    }

    /// <returns>What was seen in each phase.</returns>
    public static async Task<Dictionary<string, Seen>> PlayAsync(bool toolkit, Progress progress, TourLoad load, string[] settings, CancellationToken stopping)
    {
        await using TourShop shop = await TourShop.StartAsync(toolkit, settings, stopping);

        // Until what is measured next has been compiled.
        string side = toolkit ? "with" : "without";
        progress.Step($"{side} the toolkit: getting ready");
        await LoadAsync(shop, load with { OrdersEach = 40, Pace = TimeSpan.Zero }, stopping);

        Dictionary<string, Seen> seen = [];
        foreach ((string name, Fault fault) in Phases)
        {
            progress.Step($"{side} the toolkit: {name}");
            await shop.TellPaymentsAsync(fault, stopping);
            ChargeCount before = await shop.ChargesAsync(stopping);
            Answer[] answers = await LoadAsync(shop, load, stopping);
            ChargeCount after = await shop.ChargesAsync(stopping);
            seen.Add(name, new Seen(answers, after.Calls - before.Calls));
        }

        return seen;
    }

    private static async Task<Answer[]> LoadAsync(TourShop shop, TourLoad load, CancellationToken stopping)
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
                using HttpResponseMessage response = await shop.OrderAsync(stopping);
                TimeSpan answered = TimeProvider.System.GetElapsedTime(start);
                answers[i] = new Answer(response.StatusCode, response.Headers.RetryAfter is not null, answered - sent, answered);
                TimeSpan early = (i + 1) * load.Pace - answered;
                if (early > TimeSpan.Zero)
                {
                    await Task.Delay(early, stopping);
                }
            }

            return answers;
        }
    }

    private static string Row(string phase, string side, Seen seen) => string.Create(
        CultureInfo.InvariantCulture,
        $"{phase,-11}  {side,-8}{100 * seen.Success,7:0.0} %{Incident.Milliseconds(seen.Percentile(0.5)),10}{Incident.Milliseconds(seen.Percentile(0.99)),10}{seen.PaymentsCalls,17}   {seen.Statuses}");

    /// <param name="Status">The status.</param>
    /// <param name="SaysWhen">Whether it says when to come back.</param>
    /// <param name="Latency">From the request to the answer.</param>
    /// <param name="At">From the start of the phase to the answer.</param>
    internal sealed record Answer(HttpStatusCode Status, bool SaysWhen, TimeSpan Latency, TimeSpan At);

    internal sealed record Seen(Answer[] Answers, int PaymentsCalls)
    {
        public int Paid => Answers.Count(IsPaid);

        public double Success => (double)Paid / Answers.Length;

        public TimeSpan? FirstPaid => Answers.Where(IsPaid).Min(answer => (TimeSpan?)answer.At);

        public string Statuses => string.Join("  ", Answers.CountBy(answer => (int)answer.Status).OrderBy(status => status.Key).Select(status => $"{status.Key}: {status.Value}"));

        /// <summary>By nearest rank.</summary>
        public TimeSpan Percentile(double part) => Answers.Select(answer => answer.Latency).Order().ElementAt((int)Math.Ceiling(part * Answers.Length) - 1);

        private static bool IsPaid(Answer answer) => answer.Status == HttpStatusCode.Created;
    }
}

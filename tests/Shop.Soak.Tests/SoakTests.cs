using System.Collections.Concurrent;
using Backend.Toolkit.Tests;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Shop.Tests;

// One after the other: they are about a machine that does one thing.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]

namespace Shop.Soak.Tests;

/// <summary>The shop under load while payments and the customer are in and out of trouble: a minute, and ten with <c>tests/run.sh --soak</c>.</summary>
public sealed class SoakTests(ITestOutputHelper output) : IDisposable
{
    private const double OrdersPerSecond = 25;
    private const int FewestKills = 5;
    private const string PaymentsSecret = "--payments-secret=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    private const string CustomerSecret = "--customer-secret=whsec_SWxvdmVhcHBsZXBpZXdpdGhjcmVhbWFuZHN1Z2Fy";

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    /// <summary>Webhooks are tried again every second, and whoever is killed loses what it held after seconds.</summary>
    private static readonly string[] Impatient =
    [
        "--Webhooks:AttemptTimeout=00:00:02", "--Webhooks:Lease=00:00:07", "--Webhooks:FirstPause=00:00:00.100", "--Webhooks:MaxPause=00:00:01", "--Idempotency:orders:Lease=00:00:05",
    ];

    private readonly string _folder = Folder();
    private readonly int _seed = Random.Shared.Next();

    private static bool IsLong => Environment.GetEnvironmentVariable("BACKEND_TOOLKIT_SOAK") == "1";

    private static TimeSpan Duration => IsLong ? TimeSpan.FromMinutes(10) : TimeSpan.FromMinutes(1);

    /// <summary>Until what is only ever made once has been made: compiled code, pools.</summary>
    private static TimeSpan WarmUp => IsLong ? TimeSpan.FromMinutes(1) : TimeSpan.FromSeconds(20);

    private string Promises => Path.Combine(_folder, "promises");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task A_shop_that_is_killed_again_and_again_keeps_every_promise_and_does_nothing_twice()
    {
        output.WriteLine($"Seed {_seed}.");
        string url = $"http://127.0.0.1:{ShopProcess.LastingPort()}";
        await using ShopProcess payments = await ShopProcess.StartAsync(["--only=payments", $"--data={_folder}/payments", $"--shops={url}", PaymentsSecret, .. Impatient, .. Schedule(50)]);
        await using ShopProcess customer = await ShopProcess.StartAsync("--only=customer", $"--data={_folder}/customer", CustomerSecret);
        // One attempt: what the customer does not take is a dead letter, which is sent again in the end.
        string[] arguments =
        [
            $"--urls={url}", $"--data={_folder}/shop", $"--payments={payments.Address("payments")}", $"--customer={customer.Address("customer")}", PaymentsSecret, CustomerSecret, .. Impatient, .. Schedule(1),
        ];
        var incidents = new Incidents(payments.Address("payments"), customer.Address("customer"), new Random(_seed));
        using var load = new Load(new Uri(url), new Random(_seed), Promises);
        using var end = new CancellationTokenSource();

        Task trouble = incidents.PlayAsync(end.Token);
        Task offer = load.OfferAsync(OrdersPerSecond, end.Token);
        (ShopProcess shop, int kills, string[] errors) = await KillAsync(arguments, load);
        await end.CancelAsync();
        await Task.WhenAll(trouble, offer);
        await using ShopProcess last = shop;
        await load.SettleAsync(Patience);
        using var books = new Books($"{_folder}/shop", $"{_folder}/payments", $"{_folder}/customer", Promises);
        await SettleAsync(books);
        output.WriteLine($"{load}\n{kills} kills, {incidents.Count} incidents");
        Report(books);
        int dead = await SendDeadLettersAgainAsync(books, new Uri(url));

        errors.Concat(shop.Errors).Concat(payments.Errors).Concat(customer.Errors).Where(IsBug).Should().BeEmpty();
        $"{load}".Should().NotContain("refused").And.NotContain("Exception");
        await RealTime.UntilAsync(() => Task.FromResult(books.Count("received") == books.Count("webhook_events")), $"{dead} dead letters are received after all", Patience);
        string.Join('\n', books.Offences()).Should().BeEmpty();
    }

    [Fact]
    public async Task A_shop_that_runs_on_keeps_no_memory_and_no_sockets_and_leaves_no_exception_unobserved()
    {
        output.WriteLine($"Seed {_seed}.");
        ConcurrentQueue<string> unobserved = new();
        void Unobserved(object? sender, UnobservedTaskExceptionEventArgs e) => unobserved.Enqueue($"{e.Exception}");
        TaskScheduler.UnobservedTaskException += Unobserved;
        try
        {
            await RunOnAsync();
            for (int i = 0; i < 2; i++)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
        }
        finally
        {
            TaskScheduler.UnobservedTaskException -= Unobserved;
        }

        unobserved.Should().BeEmpty();
    }

    /// <summary>Apart from its caller, whose stack would keep tasks from the collector: what they throw as late as when the shop stops counts, too.</summary>
    private async Task RunOnAsync()
    {
        await using WebApplication shop = ShopApplication.Build(["--urls=http://127.0.0.1:0", $"--data={_folder}", "--Logging:LogLevel:Backend.Toolkit=Warning", "--Logging:Console:LogLevel:Default=None", .. Impatient, .. Schedule(50)]);
        using var errors = new ErrorLog();
        shop.Services.GetRequiredService<ILoggerFactory>().AddProvider(errors);
        await shop.StartAsync();
        Neighbours neighbours = shop.Services.GetRequiredService<Neighbours>();

        // The dashboard asks payments and the customer once a second, on connections that stay.
        int idle = 0;
        long started = TimeProvider.System.GetTimestamp();
        await RealTime.UntilAsync(() =>
        {
            idle = Math.Max(idle, Sockets());
            return Task.FromResult(TimeProvider.System.GetElapsedTime(started) > TimeSpan.FromSeconds(4));
        }, "a few seconds without load");
        long early, late;
        using (var load = new Load(new Uri(shop.Urls.First()), new Random(_seed), Promises))
        {
            var incidents = new Incidents(neighbours.Payments, neighbours.Customer, new Random(_seed));
            early = await HeapAfterAsync(load, incidents, WarmUp);
            late = await HeapAfterAsync(load, incidents, Duration - WarmUp);
            output.WriteLine($"{load}\n{incidents.Count} incidents");
            load.Accepted.Should().BeGreaterThan((int)(Duration.TotalSeconds * OrdersPerSecond / 5), "what accepts little is tried little");
            $"{load}".Should().NotContain("refused").And.NotContain("Exception");
        }

        int after = Sockets();
        await RealTime.UntilAsync(() => Task.FromResult(Sockets() <= idle), $"the sockets, {after} after the load, are {idle} again", TimeSpan.FromSeconds(10));
        using var books = new Books(_folder, _folder, _folder, Promises);
        await SettleAsync(books);
        Report(books);
        output.WriteLine($"Heap {early / 1024} KiB after {WarmUp}, {late / 1024} KiB after {Duration}: {(double)late / early:0.000}. Sockets {idle} idle, {after} after the load.");

        string.Join('\n', books.Offences()).Should().BeEmpty();
        errors.Entries.Where(IsBug).Should().BeEmpty();
        late.Should().BeLessThanOrEqualTo(MostAfter(early));
        await shop.StopAsync();
    }

    /// <summary>In memory, where there is room: a kill takes nothing from there, and how fast the disk of a busy machine syncs is not what is asked.</summary>
    private static string Folder()
    {
        const string memory = "/dev/shm";
        return Directory.Exists(memory) && new DriveInfo(memory).AvailableFreeSpace > 1L << 30
            ? Directory.CreateDirectory(Path.Combine(memory, $"shop-soak-{Guid.NewGuid():N}")).FullName
            : Directory.CreateTempSubdirectory("shop-soak-").FullName;
    }

    /// <summary>All errors but one: on a busy machine a write may wait longer than SQLite's patience. Its client is told 503, and asks again.</summary>
    private static bool IsBug(string error) => !error.Contains("Another writer has held the file's lock", StringComparison.Ordinal);

    private static string[] Schedule(int attempts) => [.. Enumerable.Range(0, attempts).Select(i => $"--Webhooks:Schedule:{i}=00:00:0{(i == 0 ? 0 : 1)}")];

    /// <summary>Starts the shop and kills it some seconds later, as soon as it has answered somebody, again and again: for the duration, and a few times at least.</summary>
    /// <returns>The one that is left alive, how many were killed, and what these complained of.</returns>
    private async Task<(ShopProcess Shop, int Kills, string[] Errors)> KillAsync(string[] arguments, Load load)
    {
        var random = new Random(_seed);
        List<string> errors = [];
        long begun = TimeProvider.System.GetTimestamp();
        for (int kills = 0; ; kills++)
        {
            ShopProcess shop = await ShopProcess.StartAsync(arguments);
            if (kills >= FewestKills && TimeProvider.System.GetElapsedTime(begun) > Duration)
            {
                return (shop, kills, [.. errors]);
            }

            int accepted = load.Accepted;
            await RealTime.PassAsync(TimeSpan.FromMilliseconds(random.Next(500, 6000)), CancellationToken.None);
            await RealTime.UntilAsync(() => Task.FromResult(load.Accepted > accepted), $"the shop accepts an order ({load})", Patience);
            shop.HasExited.Should().BeFalse("nobody but this test ends it: {0}", string.Join('\n', shop.Errors));
            await shop.KillAsync();
            errors.AddRange(shop.Errors);
            await shop.DisposeAsync();
        }
    }

    /// <summary>The load with its incidents, then the managed heap, when all that was begun has ended.</summary>
    private static async Task<long> HeapAfterAsync(Load load, Incidents incidents, TimeSpan duration)
    {
        using var end = new CancellationTokenSource(duration, TimeProvider.System);
        await Task.WhenAll(incidents.PlayAsync(end.Token), load.OfferAsync(OrdersPerSecond, end.Token));
        await load.SettleAsync(Patience);
        for (int i = 0; i < 2; i++)
        {
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Forced, blocking: true, compacting: true);
            GC.WaitForPendingFinalizers();
        }

        return GC.GetTotalMemory(forceFullCollection: true);
    }

    /// <summary>A tenth more. In the short form, which begins before all is made that is made once, a tenth is half a megabyte, and less than a run without any leak may gain: there, a megabyte.</summary>
    private static long MostAfter(long early) => Math.Max((long)(early * 1.1), IsLong ? 0 : early + (1L << 20));

    private static int Sockets() => Directory.EnumerateFiles("/proc/self/fd").Count(file => new FileInfo(file).LinkTarget?.StartsWith("socket:", StringComparison.Ordinal) == true);

    private static async Task SettleAsync(Books books)
    {
        List<string> offences = [];
        try
        {
            await RealTime.UntilAsync(() => Task.FromResult((offences = books.Offences()).Count == 0), "all is settled", Patience);
        }
        catch (TimeoutException)
        {
            string.Join('\n', offences).Should().BeEmpty("all was well for {0}", Patience);
        }
    }

    private void Report(Books books) => output.WriteLine(
        $"orders: {books.Count("orders WHERE status = 1")} paid, {books.Count("orders WHERE status = 2")} declined, {books.Count("orders WHERE status = 0")} pending; {books.Count("promises")} promised; {books.Count("charges")} charges\n"
        + $"webhooks: {books.Count("webhook_events")} announced, {books.Count("received")} received, {books.Count("received WHERE repeats > 0")} of them again, {books.DeadLetters().Count} dead letters; {books.Count("webhook_attempts")} attempts");

    private static async Task<int> SendDeadLettersAgainAsync(Books books, Uri shop)
    {
        using var client = new HttpClient(new HttpClientHandler { AllowAutoRedirect = false });
        List<string> dead = books.DeadLetters();
        foreach (string delivery in dead)
        {
            using HttpResponseMessage sent = await client.PostAsync(new Uri(shop, $"webhooks/{delivery}/resend"), null);
            sent.StatusCode.Should().Be(System.Net.HttpStatusCode.Redirect);
        }

        return dead.Count;
    }
}

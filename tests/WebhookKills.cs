using System.Data.Common;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Backend.Toolkit.Webhooks.Delivery;

/// <summary>Senders and receivers are killed in a loop; then what was committed was received, and what was rolled back was not. A store adds a subclass.</summary>
public abstract class WebhookKills(ITestOutputHelper output)
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private static int Rounds => Environment.GetEnvironmentVariable("BACKEND_TOOLKIT_SOAK") == "1" ? 1000 : 15;

    /// <summary>The arguments of a process that is a sender over the store.</summary>
    protected abstract string[] SenderArguments { get; }

    protected abstract IWebhookDeliveryStore Open();

    protected abstract DbConnection Connect();

    [Fact]
    public async Task Nothing_is_lost_and_nothing_rolled_back_is_sent_when_senders_and_receivers_are_killed()
    {
        IWebhookDeliveryStore store = Open();
        await store.PrepareAsync();
        await ExecuteAsync("CREATE TABLE orders (id text PRIMARY KEY)");
        int port = FreePort();
        string file = Path.Combine(Path.GetTempPath(), $"backend-toolkit-received-{Guid.NewGuid():N}");
        string[] receiverArguments = ["receiver", port.ToString(CultureInfo.InvariantCulture), file];
        await new WebhookEndpoints(WebhookSender.Options, store).CreateAsync("acme", $"http://127.0.0.1:{port}/", secret: WebhookReceiver.Secret);
        var random = new Random(7);
        Process receiver = await StartAsync(receiverArguments);
        try
        {
            for (int round = 0; round < Rounds; round++)
            {
                Process sender = await StartAsync(SenderArguments);
                await Task.Delay(TimeSpan.FromMilliseconds(random.Next(30, 400)), TimeProvider.System, CancellationToken.None);
                await KillAsync(receiver);
                receiver = await StartAsync(receiverArguments);
                await Task.Delay(TimeSpan.FromMilliseconds(random.Next(30, 200)), TimeProvider.System, CancellationToken.None);
                await KillAsync(sender);
            }

            // What is left is delivered by one that nobody kills.
            await using var worker = new WebhookDeliveryWorker(WebhookSender.Options, store);
            await worker.StartAsync();
            long begun = TimeProvider.System.GetTimestamp();
            while (await store.FanOutAsync(1000) > 0 || (await store.ListDeliveriesAsync(new(State: WebhookDeliveryState.Pending), null, 1)).Count > 0)
            {
                Assert.True(TimeProvider.System.GetElapsedTime(begun) < Patience, "deliveries are still pending");
                await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, CancellationToken.None);
            }

            await worker.StopAsync();
        }
        finally
        {
            await KillAsync(receiver);
        }

        HashSet<string> committed = await OrdersAsync();
        string[] lines = [.. File.ReadLines(file).Where(line => line.EndsWith('.'))];
        File.Delete(file);
        string[] effects = [.. lines.Where(line => line.StartsWith("effect ", StringComparison.Ordinal)).Select(line => line.Split(' ')[1].TrimEnd('.'))];
        output.WriteLine($"{Rounds} kills each of sender and receiver: {committed.Count} committed, {effects.Length} received, {lines.Length - effects.Length} repeats absorbed.");
        committed.Should().HaveCountGreaterThan(Rounds);
        committed.Except(effects).Should().BeEmpty("nothing is lost");
        effects.Except(committed).Should().BeEmpty("what was rolled back is not sent");
        effects.Should().OnlyHaveUniqueItems();
    }

    private async Task<HashSet<string>> OrdersAsync()
    {
        await using DbConnection connection = Connect();
        await connection.OpenAsync();
        await using DbCommand command = connection.CreateCommand();
        command.CommandText = "SELECT id FROM orders";
        await using DbDataReader reader = await command.ExecuteReaderAsync();
        var orders = new HashSet<string>();
        while (await reader.ReadAsync())
        {
            orders.Add(reader.GetString(0));
        }

        return orders;
    }

    private async Task ExecuteAsync(string text)
    {
        await using DbConnection connection = Connect();
        await connection.OpenAsync();
        await using DbCommand command = connection.CreateCommand();
        command.CommandText = text;
        await command.ExecuteNonQueryAsync();
    }

    private static async Task<Process> StartAsync(string[] arguments)
    {
        // A port that was just in use may need a moment.
        for (int tries = 0; tries < 20; tries++)
        {
            var process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, arguments) { RedirectStandardOutput = true })!;
            if (await process.StandardOutput.ReadLineAsync() == "ready")
            {
                return process;
            }

            await process.WaitForExitAsync();
            process.Dispose();
        }

        throw new InvalidOperationException($"Did not become ready: {string.Join(' ', arguments)}");
    }

    /// <summary>On Unix this is SIGKILL.</summary>
    private static async Task KillAsync(Process process)
    {
        process.Kill();
        await process.WaitForExitAsync();
        process.Dispose();
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}

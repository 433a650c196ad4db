using System.Diagnostics;
using System.Globalization;

namespace Backend.Toolkit.Idempotency.Sqlite.Tests;

/// <summary>Several processes on one file.</summary>
public sealed class ProcessTests : IAsyncDisposable
{
    private readonly Database _database = new();
    private readonly List<Process> _nodes = [];

    public async ValueTask DisposeAsync()
    {
        foreach (Process node in _nodes)
        {
            node.Kill();
            await node.WaitForExitAsync();
            node.Dispose();
        }

        await _database.DisposeAsync();
    }

    [Fact]
    public async Task Processes_that_race_for_keys_have_one_effect_and_one_lease_for_each()
    {
        const int Keys = 200;
        Process[] nodes = [await StartAsync("race", $"{Keys}"), await StartAsync("race", $"{Keys}"), await StartAsync("race", $"{Keys}")];

        Array.ForEach(nodes, node => node.StandardInput.WriteLine());
        int claimed = 0;
        foreach (Process node in nodes)
        {
            claimed += int.Parse((await node.StandardOutput.ReadLineAsync())!, CultureInfo.InvariantCulture);
        }

        _database.Count("effects").Should().Be(Keys);
        _database.Count("(SELECT DISTINCT name FROM effects)").Should().Be(Keys);
        claimed.Should().Be(Keys);
        _database.Count("idempotency WHERE state = 2").Should().Be(2 * Keys);
    }

    [Fact]
    public async Task A_process_that_is_killed_leaves_no_effect_and_its_lease_is_taken_over_when_it_has_ended()
    {
        Process node = await StartAsync("hold", "key");
        await node.StandardInput.WriteLineAsync();
        (await node.StandardOutput.ReadLineAsync()).Should().Be("held");
        SqliteIdempotencyStore store = _database.CreateStore();
        var executor = new IdempotentExecutor(store, new IdempotencyOptions { Name = "nodes", Lease = TimeSpan.FromSeconds(1), MaxWait = TimeSpan.FromSeconds(30), Duplicates = DuplicatePolicy.WaitAndReplay });
        await using var connection = _database.Connect();

        node.Kill();
        int runs = 0;
        await executor.ExecuteInTransactionAsync("key", default, connection, (_, _, _) => ValueTask.FromResult($"run {++runs}"), NodeJson.Default.String);
        await executor.ExecuteAsync("lease key", default, (_, _) =>
        {
            runs++;
            return ValueTask.CompletedTask;
        });

        runs.Should().Be(2);
        _database.Count("effects").Should().Be(0);
    }

    private async Task<Process> StartAsync(string mode, string argument)
    {
        Process node = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, ["node", mode, _database.File, argument]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        _nodes.Add(node);
        (await node.StandardOutput.ReadLineAsync()).Should().Be("ready");
        return node;
    }
}

using System.Collections.Concurrent;
using System.Globalization;

namespace Backend.Toolkit.Idempotency.Processes.Tests;

/// <summary>One node is killed and started again, over and over, beside one that lives; clients ask both until they are answered.</summary>
public sealed class KillTests(PostgreSqlServer postgreSql)
{
    private const int Workers = 6;

    private static int Kills => Environment.GetEnvironmentVariable("BACKEND_TOOLKIT_SOAK") == "1" ? 1000 : 15;

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgresql")]
    public async Task A_killed_owner_leaves_exactly_one_effect_of_a_transaction(string store)
    {
        await using Place place = await Place.MakeAsync(postgreSql, store, inTransaction: true);
        using var clients = new Clients();

        (List<Killing> killings, ICollection<string> keys) = await KillOverAndOverAsync(place, clients);

        Dictionary<string, string[]> charges = await place.ChargesAsync();
        History.Violations(clients.History).Should().BeEmpty();
        charges.Keys.Should().BeEquivalentTo(keys);
        charges.Where(key => key.Value.Length != 1).Should().BeEmpty("a transaction that was killed has no effect");
        Tell(store, place, killings, clients);
    }

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgresql")]
    [InlineData("redis")]
    public async Task A_killed_owner_is_taken_over_when_its_lease_ends_and_leaves_one_recorded_outcome(string store)
    {
        await using Place place = await Place.MakeAsync(postgreSql, store, inTransaction: false);
        using var clients = new Clients();

        (List<Killing> killings, ICollection<string> keys) = await KillOverAndOverAsync(place, clients);

        Dictionary<string, string[]> charges = await place.ChargesAsync();
        HashSet<string> killed = [.. place.Ledger.Runs().Where(run => killings.Exists(killing => killing.Node == run.Node)).Select(run => run.Key)];
        History.Violations(clients.History).Should().BeEmpty();
        charges.Keys.Should().BeEquivalentTo(keys);
        charges.Where(key => key.Value.Distinct().Count() != 1).Should().BeEmpty("the far side can tell a repeat by its key");
        charges.Where(key => key.Value.Length > 1 && !killed.Contains(key.Key)).Should().BeEmpty("an effect is repeated only after a kill");

        // On two busy cores a single one may be late: the process that takes over is one of a dozen that want to run.
        TimeSpan[] takeovers = [.. Tell(store, place, killings, clients).Order()];
        takeovers.Should().NotBeEmpty().And.OnlyContain(time => time <= NodeSettings.Lease + TimeSpan.FromSeconds(15));
        takeovers[takeovers.Length / 2].Should().BeLessThanOrEqualTo(NodeSettings.Lease + TimeSpan.FromSeconds(1) + clients.LongestStall);
    }

    private async Task<(List<Killing> Killings, ICollection<string> Keys)> KillOverAndOverAsync(Place place, Clients clients)
    {
        var random = new Random(17);
        await using NodeProcess survivor = await NodeProcess.StartAsync(place.Node("survivor"));
        Uri? mortal = null;
        ConcurrentDictionary<string, bool> keys = new();
        bool isOver = false;
        Task[] workers = [.. Enumerable.Range(0, Workers).Select(worker => WorkAsync(worker))];
        List<Killing> killings = [];
        for (int i = 0; i < Kills; i++)
        {
            // Four points that it comes to by itself, and any other.
            DeathPoint point = (DeathPoint)(i % 5);
            await using NodeProcess node = await NodeProcess.StartAsync(place.Node($"mortal-{i}") with { Death = point, Hit = random.Next(1, 6) });
            Volatile.Write(ref mortal, node.Address);
            bool hasDied = await node.HasEndedWithinAsync(point == DeathPoint.Never ? TimeSpan.FromMilliseconds(random.Next(20, 300)) : TimeSpan.FromSeconds(20));
            hasDied.Should().Be(point != DeathPoint.Never, $"point {point} is reached");
            if (!hasDied)
            {
                node.Kill();
                await node.HasEndedWithinAsync(TimeSpan.FromSeconds(20));
            }

            killings.Add(new Killing(node.Name, TimeProvider.System.GetUtcNow()));
        }

        Volatile.Write(ref isOver, true);
        await Task.WhenAll(workers);
        return (killings, keys.Keys);

        async Task WorkAsync(int worker)
        {
            for (int i = 0; !Volatile.Read(ref isOver); i++)
            {
                string key = string.Create(CultureInfo.InvariantCulture, $"{worker}-{i}");
                keys[key] = true;
                Task forged = Task.CompletedTask;
                Task<Exchange> paid = clients.PayAsync(attempt => attempt % 2 == 0 && Volatile.Read(ref mortal) is { } address ? address : survivor.Address, key);
                if (i % 10 == 3)
                {
                    // A duplicate, at the same time.
                    forged = clients.PayAsync(_ => survivor.Address, key);
                }

                await paid;
                await forged;
                if (i % 4 == 0)
                {
                    await clients.SendAsync(survivor.Address, key, "10");
                    await clients.SendAsync(survivor.Address, key, "1000000");
                }
            }
        }
    }

    /// <summary>How long after each kill the runs that it ended began again elsewhere.</summary>
    private static List<TimeSpan> Tell(string store, Place place, List<Killing> killings, Clients clients)
    {
        List<Run> runs = place.Ledger.Runs();
        Dictionary<string, DateTimeOffset> ends = killings.ToDictionary(killing => killing.Node, killing => killing.At);
        List<TimeSpan> takeovers = [.. runs.GroupBy(run => run.Key).SelectMany(key => key.Zip(key.Skip(1))).Where(pair => ends.ContainsKey(pair.First.Node)).Select(pair => Takeover(ends[pair.First.Node], pair.Second.At))];
        TestContext.Current.SendDiagnosticMessage("{0}: {1} kills, {2} keys, {3} runs, {4} begun again, at the latest {5} after the kill (longest stall of this machine {6}); answers {7}", store, killings.Count,
            runs.Select(run => run.Key).Distinct().Count(), runs.Count, takeovers.Count, takeovers.Count > 0 ? takeovers.Max() : TimeSpan.Zero, clients.LongestStall, clients);
        return takeovers;

        TimeSpan Takeover(DateTimeOffset end, DateTimeOffset begun)
        {
            // Who took over may have been killed before it could tell of it; then that is where the time begins.
            foreach (Killing killing in killings.Where(killing => killing.At < begun && killing.At >= end + NodeSettings.Lease - TimeSpan.FromMilliseconds(500)))
            {
                end = killing.At;
            }

            return begun - end;
        }
    }

    private sealed record Killing(string Node, DateTimeOffset At);
}

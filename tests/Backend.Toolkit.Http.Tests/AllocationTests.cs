using Xunit.Sdk;

namespace Backend.Toolkit.Http.Tests;

/// <summary>Measures bytes, so nothing else may run meanwhile.</summary>
[CollectionDefinition(nameof(AllocationTests), DisableParallelization = true)]
[Collection(nameof(AllocationTests))]
public sealed class AllocationTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(false, 360)]
    [InlineData(true, 520)]
    public void A_call_that_succeeds_at_once_costs_few_bytes_beyond_the_bare_handler(bool coverBody, int limit)
    {
        using var policy = new OutboundPolicy(new OutboundPolicyOptions { Name = "bytes", CoverResponseBody = coverBody });
        using var ours = new HttpMessageInvoker(new OutboundPolicyHandler(policy) { InnerHandler = new Instant() });
        using var bare = new HttpMessageInvoker(new Instant());

        long bytes = OnCleanThread(() => Measure(ours) - Measure(bare));

        output.WriteLine($"{bytes} bytes, body covered: {coverBody}");
        bytes.Should().BeInRange(100, limit);
    }

    [Fact]
    public void Two_thousand_authorities_keep_at_most_400_bytes_each()
    {
        const int Hosts = 2_000;
        using var policy = new OutboundPolicy(new OutboundPolicyOptions { Name = "hosts", CircuitBreaker = new() { Capacity = Hosts } });
        using var invoker = new HttpMessageInvoker(new OutboundPolicyHandler(policy) { InnerHandler = new Instant() });
        Send(invoker, "http://warm-up/");
        long before = GC.GetTotalMemory(forceFullCollection: true);

        for (int host = 0; host < Hosts; host++)
        {
            Send(invoker, $"http://host{host}/");
        }

        long each = (GC.GetTotalMemory(forceFullCollection: true) - before) / Hosts;
        output.WriteLine($"{each} bytes an authority");
        policy.CircuitBreakers.Snapshot().Should().HaveCount(Hosts);
        each.Should().BeInRange(50, 400);
    }

    [Fact]
    public async Task Reads_that_had_to_wait_keep_nothing()
    {
        const int Reads = 2_000;
        var body = new Pipe();
        using var outbound = new Outbound();
        outbound.Server.Answers(_ => new Reply(200) { Content = new StreamContent(body) });
        using HttpResponseMessage response = await outbound.GetAsync();
        Stream stream = await response.Content.ReadAsStreamAsync();
        await ReadAsync(100);
        long before = GC.GetTotalMemory(forceFullCollection: true);

        await ReadAsync(Reads);

        (GC.GetTotalMemory(forceFullCollection: true) - before).Should().BeLessThan(40 * Reads, "a scope alone is 120 bytes");

        async Task ReadAsync(int reads)
        {
            byte[] buffer = new byte[1];
            for (int i = 0; i < reads; i++)
            {
                ValueTask<int> reading = stream.ReadAsync(buffer);
                body.Push(1);
                await reading;
            }
        }
    }

    /// <summary>Without the test runner's async-locals, which make every change of the execution context dearer.</summary>
    private static long OnCleanThread(Func<long> measure)
    {
        long bytes = 0;
        Exception? failure = null;
        var thread = new Thread(() => failure = Record.Exception(() => bytes = measure()));
        thread.UnsafeStart();
        thread.Join(TimeSpan.FromSeconds(10)).Should().BeTrue();
        failure.Should().BeNull();
        return bytes;
    }

    private static long Measure(HttpMessageInvoker invoker)
    {
        const int Calls = 2_000;
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(Outbound.Url));
        long before = 0;
        for (int call = -Calls; call < Calls; call++)
        {
            before = call == 0 ? GC.GetAllocatedBytesForCurrentThread() : before;
            Task<HttpResponseMessage> pending = invoker.SendAsync(request, default);
            if (!pending.IsCompletedSuccessfully)
            {
                throw new XunitException("It must complete at once.");
            }
        }

        return (GC.GetAllocatedBytesForCurrentThread() - before) / Calls;
    }

    private static void Send(HttpMessageInvoker invoker, string url)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, url);
        Task<HttpResponseMessage> pending = invoker.SendAsync(request, default);
        pending.IsCompletedSuccessfully.Should().BeTrue();
        pending.Result.Dispose();
    }

    private sealed class Instant : HttpMessageHandler
    {
        private readonly byte[] _bytes = [1, 2, 3];

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
            Task.FromResult(new HttpResponseMessage { Content = new ByteArrayContent(_bytes) });
    }
}

using BenchmarkDotNet.Attributes;

/// <summary>
/// What a call costs that succeeds at the first attempt, over a primary handler that answers at once from memory. Each row makes its request and
/// disposes its response; "bare" is the floor, and the overhead is what is over it.
/// </summary>
[GroupBenchmarksBy(BenchmarkDotNet.Configs.BenchmarkLogicalGroupRule.ByCategory)]
public class InMemoryBenchmarks
{
    private const string Address = "http://payments.internal:8080/charges";

    private readonly Uri _uri = new(Address);
    private readonly byte[] _buffer = new byte[1024];
    private HttpMessageInvoker _bare = null!, _standard = null!, _byAuthority = null!, _ours = null!, _oursKey = null!;
    private HttpMessageInvoker _bareBody = null!, _standardBody = null!, _oursBody = null!;

    [GlobalSetup]
    public void Start()
    {
        var plain = new Clients(() => new InMemory());
        (_bare, _standard, _byAuthority, _ours, _oursKey) = (plain["bare"], plain["standard"], plain["standard-by-authority"], plain["ours"], plain["ours-key"]);
        var body = new Clients(() => new InMemory(() => new BodyContent()));
        (_bareBody, _standardBody, _oursBody) = (body["bare"], body["standard"], body["ours-body"]);
    }

    [Benchmark(Description = Comparison.Floor), BenchmarkCategory("GET")]
    public Task<int> Bare() => Get(_bare);

    [Benchmark(Baseline = true, Description = "standard handler"), BenchmarkCategory("GET")]
    public Task<int> Standard() => Get(_standard);

    [Benchmark(Description = "OutboundPolicy"), BenchmarkCategory("GET")]
    public Task<int> Ours() => Get(_ours);

    [Benchmark(Description = Comparison.Floor), BenchmarkCategory("GET, fresh Uri, per authority")]
    public Task<int> BareFresh() => GetFresh(_bare);

    [Benchmark(Baseline = true, Description = "standard handler"), BenchmarkCategory("GET, fresh Uri, per authority")]
    public Task<int> StandardFresh() => GetFresh(_byAuthority);

    [Benchmark(Description = "OutboundPolicy"), BenchmarkCategory("GET, fresh Uri, per authority")]
    public Task<int> OursFresh() => GetFresh(_ours);

    [Benchmark(Description = Comparison.Floor), BenchmarkCategory("POST, ours with a key")]
    public Task<int> BarePost() => Post(_bare);

    [Benchmark(Baseline = true, Description = "standard handler"), BenchmarkCategory("POST, ours with a key")]
    public Task<int> StandardPost() => Post(_standard);

    [Benchmark(Description = "OutboundPolicy"), BenchmarkCategory("POST, ours with a key")]
    public Task<int> OursPost() => Post(_oursKey);

    [Benchmark(Description = Comparison.Floor), BenchmarkCategory("GET, body read, ours under the budget")]
    public Task<int> BareBody() => GetBody(_bareBody);

    [Benchmark(Baseline = true, Description = "standard handler"), BenchmarkCategory("GET, body read, ours under the budget")]
    public Task<int> StandardBody() => GetBody(_standardBody);

    [Benchmark(Description = "OutboundPolicy"), BenchmarkCategory("GET, body read, ours under the budget")]
    public Task<int> OursBody() => GetBody(_oursBody);

    private async Task<int> Get(HttpMessageInvoker client)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, _uri);
        using HttpResponseMessage response = await client.SendAsync(request, CancellationToken.None).ConfigureAwait(false);
        return (int)response.StatusCode;
    }

    private static async Task<int> GetFresh(HttpMessageInvoker client)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(Address));
        using HttpResponseMessage response = await client.SendAsync(request, CancellationToken.None).ConfigureAwait(false);
        return (int)response.StatusCode;
    }

    private async Task<int> Post(HttpMessageInvoker client)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, _uri);
        using HttpResponseMessage response = await client.SendAsync(request, CancellationToken.None).ConfigureAwait(false);
        return (int)response.StatusCode;
    }

    private async Task<int> GetBody(HttpMessageInvoker client)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, _uri);
        using HttpResponseMessage response = await client.SendAsync(request, CancellationToken.None).ConfigureAwait(false);
        Stream body = await response.Content.ReadAsStreamAsync().ConfigureAwait(false);
        int read = 0;
        while (await body.ReadAsync(_buffer).ConfigureAwait(false) is > 0 and var count)
        {
            read += count;
        }

        return read;
    }
}

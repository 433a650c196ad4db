using BenchmarkDotNet.Attributes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

/// <summary>The same over a connection to this machine: here the network is most of what is measured.</summary>
[GroupBenchmarksBy(BenchmarkDotNet.Configs.BenchmarkLogicalGroupRule.ByCategory)]
public class LoopbackBenchmarks
{
    private readonly byte[] _buffer = new byte[1024];
    private WebApplication _server = null!;
    private Uri _uri = null!;
    private HttpMessageInvoker _bare = null!, _standard = null!, _ours = null!;

    [GlobalSetup]
    public async Task Start()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        _server = builder.Build();
        byte[] answer = new byte[256];
        _server.MapGet("/", () => Results.Bytes(answer));
        await _server.StartAsync();
        _uri = new Uri(_server.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());
        var clients = new Clients(() => new SocketsHttpHandler());
        (_bare, _standard, _ours) = (clients["bare"], clients["standard"], clients["ours-body"]);
    }

    [GlobalCleanup]
    public Task Stop() => _server.DisposeAsync().AsTask();

    [Benchmark(Description = Comparison.Floor), BenchmarkCategory("loopback, body read")]
    public Task<int> Bare() => Get(_bare);

    [Benchmark(Baseline = true, Description = "standard handler"), BenchmarkCategory("loopback, body read")]
    public Task<int> Standard() => Get(_standard);

    [Benchmark(Description = "OutboundPolicy"), BenchmarkCategory("loopback, body read")]
    public Task<int> Ours() => Get(_ours);

    private async Task<int> Get(HttpMessageInvoker client)
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

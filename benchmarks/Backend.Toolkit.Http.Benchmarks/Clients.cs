using System.Net;
using Backend.Toolkit.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Http.Resilience;

/// <summary>The same client three times: bare, with the standard handler of Microsoft.Extensions.Http.Resilience, and with ours. Nobody logs, nobody listens.</summary>
internal sealed class Clients : IDisposable
{
    private readonly ServiceProvider _provider;

    public Clients(Func<HttpMessageHandler> primary)
    {
        var services = new ServiceCollection();
        Add("bare");
        Add("standard").AddStandardResilienceHandler();
        Add("standard-by-authority").AddStandardResilienceHandler().SelectPipelineByAuthority();
        Add("ours").AddOutboundPolicy(options => options.CoverResponseBody = false);
        Add("ours-key").AddOutboundPolicy(options =>
        {
            options.CoverResponseBody = false;
            options.AttachIdempotencyKey = true;
        });
        Add("ours-2000").AddOutboundPolicy(options => options.CircuitBreaker!.Capacity = 2_000);
        Add("ours-body").AddOutboundPolicy();
        _provider = services.BuildServiceProvider();

        IHttpClientBuilder Add(string name) => services.AddHttpClient(name)
            .ConfigurePrimaryHttpMessageHandler(primary).SetHandlerLifetime(Timeout.InfiniteTimeSpan).RemoveAllLoggers();
    }

    public HttpMessageInvoker this[string name] => new(_provider.GetRequiredService<IHttpMessageHandlerFactory>().CreateHandler(name));

    public void Dispose() => _provider.Dispose();
}

/// <summary>Answers at once, from memory: 200 with what the function makes, or without content.</summary>
internal sealed class InMemory(Func<HttpContent>? content = null) : HttpMessageHandler
{
    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        var response = new HttpResponseMessage(HttpStatusCode.OK);
        if (content is not null)
        {
            response.Content = content();
        }

        return Task.FromResult(response);
    }
}

/// <summary>A body that comes from a connection: read as a stream, once, with the headers that most have.</summary>
internal sealed class BodyContent : HttpContent
{
    private static readonly byte[] Bytes = new byte[256];

    public BodyContent()
    {
        Headers.TryAddWithoutValidation("Content-Type", "application/json");
        Headers.TryAddWithoutValidation("Content-Length", "256");
    }

    protected override Task<Stream> CreateContentReadStreamAsync() => Task.FromResult<Stream>(new MemoryStream(Bytes, writable: false));

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => stream.WriteAsync(Bytes).AsTask();

    protected override bool TryComputeLength(out long length)
    {
        length = 0;
        return false;
    }
}

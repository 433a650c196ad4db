using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.AspNetCore;
using BenchmarkDotNet.Attributes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;

/// <summary>
/// One POST on a <see cref="DefaultHttpContext"/> that is used again, without a server: bare, through the middleware to an endpoint whose optional key was not sent, and with a key under which
/// a response of 1 KB is kept in memory. Bare writes the same response. The request body has 200 bytes.
/// </summary>
public class IdempotencyMiddlewareBenchmarks
{
    private static readonly byte[] Body = new byte[1000];

    private readonly RequestDelegate _bare = Build(static _ => { });
    private readonly RequestDelegate _toolkit = Build(static app => app.UseIdempotency());
    private readonly byte[] _request = new byte[200];
    private readonly Endpoint _bareEndpoint = Make(null);
    private readonly Endpoint _endpoint = Make(new IdempotentAttribute { KeyRequired = false });
    private readonly DefaultHttpContext _withoutKey = new();
    private readonly DefaultHttpContext _withoutKeyBare = new();
    private readonly DefaultHttpContext _withKey = new();
    private readonly MemoryStream _answer = new();

    [GlobalSetup]
    public void Setup()
    {
        _withoutKey.Request.Method = "POST";
        _withoutKey.SetEndpoint(_endpoint);
        _withoutKeyBare.Request.Method = "POST";
        _withoutKeyBare.SetEndpoint(_bareEndpoint);
        _withKey.Request.Method = "POST";
        _withKey.Request.Headers["Idempotency-Key"] = "\"8e03978e-40d5-43e8-bc93-6894a57f9324\"";
        Replay();
        Replay();
        if (!_withKey.Response.Headers.ContainsKey("Idempotent-Replayed") || _answer.Length != Body.Length)
        {
            throw new InvalidOperationException("It does not replay.");
        }
    }

    [BenchmarkCategory("no key"), Benchmark(Baseline = true, Description = Comparison.Floor)]
    public void NoKeyBare() => Run(_bare, _withoutKeyBare);

    [BenchmarkCategory("no key"), Benchmark(Description = "UseIdempotency")]
    public void NoKey() => Run(_toolkit, _withoutKey);

    [BenchmarkCategory("replay"), Benchmark(Baseline = true, Description = Comparison.Floor)]
    public void Bare()
    {
        _withKey.SetEndpoint(_bareEndpoint);
        Exchange(_bare);
    }

    [BenchmarkCategory("replay"), Benchmark(Description = "UseIdempotency")]
    public void Replay()
    {
        _withKey.SetEndpoint(_endpoint);
        Exchange(_toolkit);
    }

    private static RequestDelegate Build(Action<IApplicationBuilder> use)
    {
        IServiceCollection services = new ServiceCollection().AddLogging().AddMemoryIdempotencyStore().AddIdempotency().AddHttpIdempotency(o => o.AllowAnonymous = true);
        var app = new ApplicationBuilder(services.BuildServiceProvider());
        use(app);
        app.Run(static context => context.GetEndpoint()!.RequestDelegate!(context));
        return app.Build();
    }

    private static Endpoint Make(IdempotentAttribute? attribute) => new(
        context =>
        {
            if (attribute is not null)
            {
                // As RequireIdempotency has endpoints do.
                RequestIdempotency.ThrowIfNotProtected(context, attribute, "orders");
            }

            if (!context.Request.Headers.ContainsKey("Idempotency-Key"))
            {
                return Task.CompletedTask;
            }

            context.Response.ContentType = "application/json";
            return context.Response.Body.WriteAsync(Body).AsTask();
        },
        attribute is null ? new EndpointMetadataCollection() : new EndpointMetadataCollection(attribute),
        "orders");

    private static void Run(RequestDelegate pipeline, HttpContext context)
    {
        if (!pipeline(context).IsCompletedSuccessfully)
        {
            throw new InvalidOperationException("The request has not completed.");
        }
    }

    /// <summary>What the last exchange left is taken away as a server does between requests; a new body, as that of the last one was buffered.</summary>
    private void Exchange(RequestDelegate pipeline)
    {
        _answer.SetLength(0);
        _withKey.Features.Set<IHttpResponseFeature>(new HttpResponseFeature());
        _withKey.Features.Set<IHttpResponseBodyFeature>(new StreamResponseBodyFeature(_answer));
        _withKey.Request.Body = new ForwardOnly(_request);
        _withKey.Request.ContentLength = _request.Length;
        Run(pipeline, _withKey);
    }

    private sealed class ForwardOnly(byte[] content) : MemoryStream(content)
    {
        public override bool CanSeek => false;
    }
}

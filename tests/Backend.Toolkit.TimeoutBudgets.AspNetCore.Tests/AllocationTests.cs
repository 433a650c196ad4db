using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

public sealed class AllocationTests
{
    private const int Requests = 100;

    /// <summary>Without a server, whose own cost of a callback and of a token this is not about. Optimised code may need less: it keeps some objects on the stack.</summary>
    [Theory]
    [InlineData(null, Handling.Nothing, 544)]
    [InlineData("60000", Handling.Nothing, 544)]
    [InlineData("60000", Handling.WriterWrite, 592)]
    [InlineData("60000", Handling.StreamWrite, 576)]
    public void A_request_costs_at_most_a_documented_number_of_bytes(string? header, Handling handling, int bytes)
    {
        using ServiceProvider services = new ServiceCollection().AddSingleton<TimeProvider>(new FakeTimeProvider()).BuildServiceProvider();
        long bare = Measure(Pipeline(services, handling, with: false), header);

        long with = Measure(Pipeline(services, handling, with: true), header);

        (with - bare).Should().BeInRange(1, bytes * Requests);
    }

    private static RequestDelegate Pipeline(IServiceProvider services, Handling handling, bool with)
    {
        byte[] body = "answer"u8.ToArray();
        IApplicationBuilder app = new ApplicationBuilder(services);
        if (with)
        {
            app.UseTimeoutBudgets();
        }

        app.Run(context => handling switch
        {
            Handling.WriterWrite => context.Response.BodyWriter.WriteAsync(body).AsTask(),
            Handling.StreamWrite => context.Response.Body.WriteAsync(body).AsTask(),
            _ => Task.CompletedTask,
        });
        return app.Build();
    }

    private static long Measure(RequestDelegate pipeline, string? header)
    {
        using var client = new CancellationTokenSource();
        var context = new DefaultHttpContext { RequestAborted = client.Token };
        context.Features.Set<IHttpResponseBodyFeature>(new StreamResponseBodyFeature(Stream.Null));
        context.Request.Headers["Timeout-Budget"] = header;
        for (int i = 0; i < Requests; i++)
        {
            pipeline(context).IsCompletedSuccessfully.Should().BeTrue();
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < Requests; i++)
        {
            pipeline(context);
        }

        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    public enum Handling
    {
        Nothing,
        WriterWrite,
        StreamWrite,
    }
}

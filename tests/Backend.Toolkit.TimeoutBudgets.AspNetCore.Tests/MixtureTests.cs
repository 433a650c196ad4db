using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

/// <summary>Many requests on few connections, around their deadlines, by the real clock.</summary>
public sealed class MixtureTests
{
    [Theory]
    [InlineData(HttpProtocols.Http1)]
    [InlineData(HttpProtocols.Http2)]
    public async Task Every_answer_is_whole_and_belongs_to_its_request_whatever_becomes_of_its_neighbours(HttpProtocols protocols)
    {
        const int Requests = 3_000;
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/{id:int}", AnswerAsync), services => services.AddSingleton(TimeProvider.System), protocols);
        using var client = new HttpClient(new SocketsHttpHandler { MaxConnectionsPerServer = 8 })
        {
            BaseAddress = server.Client.BaseAddress,
            Timeout = TimeSpan.FromSeconds(15),
        };
        var outcomes = new ConcurrentDictionary<string, int>();

        await Parallel.ForAsync(0, Requests, new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (id, _) =>
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, $"/{id}")
            {
                Version = protocols == HttpProtocols.Http2 ? HttpVersion.Version20 : HttpVersion.Version11,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            };
            request.Headers.Add("Timeout-Budget", (4 + (id % 12)).ToString(CultureInfo.InvariantCulture));
            using var hangUp = new CancellationTokenSource();
            if (id % 10 == 9)
            {
                hangUp.CancelAfter(id % 8);
            }

            string outcome;
            try
            {
                using HttpResponseMessage response = await client.SendAsync(request, hangUp.Token);
                string body = await response.Content.ReadAsStringAsync(hangUp.Token);
                outcome = ((int)response.StatusCode).ToString(CultureInfo.InvariantCulture);
                bool isOurs = outcome switch
                {
                    "200" => body == Body(id) && !response.Headers.Contains("No-Retry"),
                    "503" or "504" => body.StartsWith("{\"type\":", StringComparison.Ordinal) && body.EndsWith('}') && response.Headers.Contains("No-Retry"),
                    _ => false,
                };
                outcome = isOurs ? outcome : $"{outcome} wrong: {body}";
            }
            catch (OperationCanceledException) when (hangUp.IsCancellationRequested)
            {
                outcome = "hung up";
            }
            catch (HttpRequestException)
            {
                outcome = "cut";
            }

            outcomes.AddOrUpdate(outcome, 1, static (_, count) => count + 1);
        });

        outcomes.Keys.Should().BeSubsetOf(["200", "503", "504", "cut", "hung up"], "the server's errors are {0}", string.Join('\n', server.Errors));
        outcomes.Keys.Should().Contain(["200", "504"]);
        outcomes.Values.Sum().Should().Be(Requests);
        Eventually.BeTrue(() => server.Statuses.Count >= Requests - outcomes.GetValueOrDefault("hung up"), "every request leaves the pipeline");
        server.Errors.Should().BeEmpty();
    }

    private static string Body(int id) => string.Concat(Enumerable.Repeat($"{id};", 1 + (id % 700)));

    /// <summary>Around the deadline: with or without an ear for the token, in one piece or several, and sometimes with work left behind that still writes.</summary>
    private static async Task AnswerAsync(int id, HttpContext context)
    {
        byte[] body = System.Text.Encoding.ASCII.GetBytes(Body(id));
        await Task.Delay(TimeSpan.FromMilliseconds(id % 14), TimeProvider.System, id % 3 == 0 ? default : context.RequestAborted);
        switch (id % 4)
        {
            case 0:
                await context.Response.Body.WriteAsync(body);
                break;
            case 1:
                await context.Response.BodyWriter.WriteAsync(body);
                break;
            case 2:
                body.AsSpan().CopyTo(context.Response.BodyWriter.GetSpan(body.Length));
                context.Response.BodyWriter.Advance(body.Length);
                break;
            default:
                context.Response.ContentLength = body.Length;
                await context.Response.Body.WriteAsync(body.AsMemory(0, body.Length / 2), context.RequestAborted);
                await context.Response.Body.WriteAsync(body.AsMemory(body.Length / 2), context.RequestAborted);
                break;
        }
    }
}

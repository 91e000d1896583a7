// Sends one image to a station and prints its verdict, by the station's REST API.
//
//   mono Inspect.exe URL IMAGE [PART_ID [LOT]]
//
// prints one line, "ID VERDICT SCORE"; a token comes from the environment variable BLEMISH_TOKEN. Exit status: 0 pass,
// 1 reject, 3 review, and 2 with one line on standard error where there is no recorded result, which is never a pass.
// A request that fails on its way is sent again with the same Idempotency-Key, so that the part is recorded once.

using System;
using System.IO;
using System.Net;
using System.Text.RegularExpressions;
using System.Threading;

public static class Inspect
{
    const int Attempts = 5, TimeoutMs = 30000;

    public static int Main(string[] arguments)
    {
        if (arguments.Length < 2 || arguments.Length > 4)
        {
            Console.Error.WriteLine("usage: Inspect.exe URL IMAGE [PART_ID [LOT]]");
            return 2;
        }
        try
        {
            byte[] image = File.ReadAllBytes(arguments[1]);
            string url = arguments[0].TrimEnd('/') + "/v1/inspections" + Query(arguments);
            string answer = Send(url, image, NewKey());
            string id = Field(answer, "id", @"\d+"), verdict = Field(answer, "verdict", "\"(?:pass|review|reject)\"").Trim('"');
            string score = Field(answer, "score", @"(?:-?[0-9.eE+-]+|null)");
            Console.WriteLine(id + " " + verdict + " " + score);
            return verdict == "pass" ? 0 : verdict == "reject" ? 1 : 3;
        }
        catch (Exception error)
        {
            Console.Error.WriteLine(error.Message.Replace("\r", " ").Replace("\n", " "));
            return 2;
        }
    }

    static string Query(string[] arguments)
    {
        string query = "";
        if (arguments.Length > 2) query += "?part_id=" + Uri.EscapeDataString(arguments[2]);
        if (arguments.Length > 3) query += "&lot=" + Uri.EscapeDataString(arguments[3]);
        return query;
    }

    static string NewKey()
    {
        return Guid.NewGuid().ToString();
    }

    // The body is the image itself. 429 and 503 mean: not taken, come again.
    static string Send(string url, byte[] image, string key)
    {
        for (int attempt = 1; ; attempt++)
        {
            try
            {
                var request = (HttpWebRequest)WebRequest.Create(url);
                request.Method = "POST";
                request.ContentType = "image/*";
                request.Timeout = TimeoutMs;
                request.ReadWriteTimeout = TimeoutMs;
                request.Headers["Idempotency-Key"] = key;
                string token = Environment.GetEnvironmentVariable("BLEMISH_TOKEN");
                if (!string.IsNullOrEmpty(token)) request.Headers["Authorization"] = "Bearer " + token;
                request.ContentLength = image.Length;
                using (Stream body = request.GetRequestStream()) body.Write(image, 0, image.Length);
                using (var response = request.GetResponse()) return ReadAll(response);
            }
            catch (WebException error)
            {
                var response = error.Response as HttpWebResponse;
                int status = response == null ? 0 : (int)response.StatusCode;
                bool again = status == 0 || status == 429 || status == 503;
                string detail = response == null ? error.Message : status + " " + ReadAll(response);
                if (!again || attempt == Attempts) throw new Exception("no result: " + detail);
                Thread.Sleep(500 * attempt);
            }
        }
    }

    static string ReadAll(WebResponse response)
    {
        using (var reader = new StreamReader(response.GetResponseStream())) return reader.ReadToEnd();
    }

    // A field of the outermost object: what is nested in it is cut out first.
    static string Field(string json, string name, string pattern)
    {
        Match found = Regex.Match(Outermost(json), "\"" + name + "\"\\s*:\\s*(" + pattern + ")");
        if (!found.Success) throw new Exception("the answer has no " + name);
        return found.Groups[1].Value;
    }

    static string Outermost(string json)
    {
        var kept = new System.Text.StringBuilder();
        int depth = 0;
        bool text = false;
        for (int i = 0; i < json.Length; i++)
        {
            char c = json[i];
            if (text && c == '\\') { if (depth == 1) kept.Append(c).Append(json[i + 1]); i++; continue; }
            if (c == '"') text = !text;
            if (!text && (c == '}' || c == ']')) depth--;
            if (depth == 1) kept.Append(c);
            if (!text && (c == '{' || c == '[')) depth++;
        }
        return kept.ToString();
    }
}
